/* marks.c: the marks of marks.h as functions, for Python's ctypes. */
#include "marks.h"

void count_start(void);
void count_begin(void);
void count_end(const char *name);
void count_toggle(void);

void count_start(void) { mark_start(); }
void count_begin(void) { mark_begin(); }
void count_end(const char *name) { mark_end(name); }
void count_toggle(void) { mark_toggle(); }

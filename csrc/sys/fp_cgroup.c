/* fp_cgroup.c: see fp_cgroup.h. Linux: procfs, cgroupfs. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_CLOEXEC, strtok_r */
#endif
#include "sys/fp_cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* Some threads have small stacks. */
#define MOST_PATH 1024
#define MOST_LINE 4096

/* ---- files ----------------------------------------------------------------------------------- */

static int open_at(const char *root, const char *folder, const char *name) {
    char path[2 * MOST_PATH];
    int n = snprintf(path, sizeof path, "%s%s/%s", root ? root : "", folder, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return -1;
    return open(path, O_RDONLY | O_CLOEXEC);
}

/* Up to n bytes; fewer at the end of the file. */
static size_t read_some(int fd, char *to, size_t n) {
    size_t have = 0;
    while (have < n) {
        ssize_t got = read(fd, to + have, n - have);
        if (got > 0)
            have += (size_t)got;
        else if (got == 0 || errno != EINTR)
            break;
    }
    return have;
}

bool fp__file_read(const char *root, const char *folder, const char *name, char *text,
                   size_t size) {
    int fd = open_at(root, folder, name);
    if (fd < 0)
        return false;
    text[read_some(fd, text, size - 1)] = '\0';
    close(fd);
    return true;
}

/* A file line by line. What is longer than the buffer is not for us, and skipped. */
struct lines {
    int fd;
    size_t at, end;
    char bytes[MOST_LINE];
};

static char *next_line(struct lines *file) {
    for (bool skip = false;;) {
        char *line = file->bytes + file->at;
        char *newline = memchr(line, '\n', file->end - file->at);
        if (newline) {
            *newline = '\0';
            file->at = (size_t)(newline - file->bytes) + 1;
            if (!skip)
                return line;
            skip = false;
            continue;
        }
        size_t have = file->end - file->at;
        if (have == sizeof file->bytes - 1) {
            skip = true;
            have = 0;
        }
        memmove(file->bytes, line, have);
        ssize_t got;
        do
            got = read(file->fd, file->bytes + have, sizeof file->bytes - 1 - have);
        while (got < 0 && errno == EINTR);
        file->at = 0;
        file->end = have + (got > 0 ? (size_t)got : 0);
        if (got <= 0) { /* a last line without its newline */
            file->bytes[have] = '\0';
            file->at = file->end;
            return have && !skip ? file->bytes : NULL;
        }
    }
}

/* ---- groups ---------------------------------------------------------------------------------- */

/* Is `word` in a comma-separated list? */
static bool listed(const char *list, const char *word) {
    size_t length = strlen(word);
    for (const char *at = list; (at = strstr(at, word)); at += length)
        if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == '\0'))
            return true;
    return false;
}

/* mountinfo writes space, tab, newline and backslash as three octal digits. */
static void unescape(char *text) {
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

/* This process's paths in the hierarchies of both versions; "" where it is in none. */
struct paths {
    char of[3][MOST_PATH];
};

/* /proc/self/cgroup has lines "number:controllers:path"; version 2 is the one without controllers. */
static bool own_paths(const char *root, const char *controller, struct paths *paths) {
    struct lines file = {.fd = open_at(root, "/proc/self", "cgroup")};
    if (file.fd < 0)
        return false;
    paths->of[1][0] = paths->of[2][0] = '\0';
    for (char *line; (line = next_line(&file));) {
        char *controllers = strchr(line, ':');
        char *name = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!name)
            continue;
        *controllers++ = *name++ = '\0';
        int version = *controllers == '\0' ? 2 : listed(controllers, controller) ? 1 : 0;
        if (version && !paths->of[version][0] && strlen(name) < MOST_PATH)
            strcpy(paths->of[version], name);
    }
    close(file.fd);
    return true;
}

/* `path` as seen from a mount whose top is the folder `top` of the hierarchy. A path outside of it
 * belongs to another cgroup namespace: then the mount's top is the nearest thing to see. */
static const char *below(const char *path, const char *top) {
    size_t length = strcmp(top, "/") == 0 ? 0 : strlen(top);
    if (strncmp(path, top, length) != 0 || strncmp(path, "/..", 3) == 0)
        return "";
    return path[length] == '/' || path[length] == '\0' ? path + length : "";
}

/* From the folder mount + rest up to mount itself. */
static void walk_up(const char *mount, const char *rest, int version, fp__cgroup_visit visit,
                    void *arg) {
    char folder[MOST_PATH];
    size_t top = strlen(mount);
    if (strcmp(rest, "/") == 0)
        rest = "";
    if (snprintf(folder, sizeof folder, "%s%s", mount, rest) >= (int)sizeof folder)
        return;
    for (;;) {
        visit(arg, folder, version);
        char *slash = strrchr(folder, '/');
        if (!slash || (size_t)(slash - folder) < top)
            return;
        *slash = '\0';
    }
}

/* One line of mountinfo: "36 35 98:0 TOP MOUNT options [more...] - TYPE source SUPEROPTIONS". */
static void walk_mount(const struct paths *paths, const char *controller, char *line,
                       fp__cgroup_visit visit, void *arg) {
    char *rest = strstr(line, " - cgroup");
    char *field[5], *save = NULL;
    if (!rest)
        return;
    *rest = '\0';
    rest += 3;
    for (int i = 0; i < 5; i++)
        if (!(field[i] = strtok_r(i ? NULL : line, " ", &save)))
            return;
    const char *type = strtok_r(rest, " ", &save);
    strtok_r(NULL, " ", &save);
    const char *options = strtok_r(NULL, " ", &save);
    int version = !type || !options                                            ? 0
                  : strcmp(type, "cgroup2") == 0                               ? 2
                  : strcmp(type, "cgroup") == 0 && listed(options, controller) ? 1
                                                                               : 0;
    if (!version || !paths->of[version][0])
        return;
    unescape(field[3]);
    unescape(field[4]);
    walk_up(field[4], below(paths->of[version], field[3]), version, visit, arg);
}

void fp__cgroup_walk(const char *root, const char *controller, fp__cgroup_visit visit, void *arg) {
    struct paths paths;
    if (!own_paths(root, controller, &paths))
        return;
    struct lines file = {.fd = open_at(root, "/proc/self", "mountinfo")};
    if (file.fd < 0)
        return;
    for (char *line; (line = next_line(&file));)
        walk_mount(&paths, controller, line, visit, arg);
    close(file.fd);
}

/* darwin.c: what macOS does in its own way, beside posix.c. */
#include "os/fp_os.h"
#include "os/fp_shared.h"

#include <fcntl.h>
#include <mach-o/dyld.h>
#include <mach/mach.h>
#include <sys/sysctl.h>
#include <time.h>
#include <unistd.h>

/* A file: of a shared memory object, the kernel's pshm_mmap() refuses a map with MAP_PRIVATE.  The system
 * may write its pages to the disk. */
int fp_os_memory_create(uint64_t size) { return fp__memory_of(fp__temporary_file(), size); }

/* Memory that can't be had is never a SIGBUS here: pages go to the file, or the system ends somebody. */
int fp_os_memory_reserve(int fd, uint64_t offset, uint64_t len) {
    (void)fd;
    (void)offset;
    (void)len;
    return 0;
}

/* There is no pipe2(). */
int fp__pipe(int ends[2]) {
    if (pipe(ends) < 0) {
        return -errno;
    }
    fcntl(ends[0], F_SETFD, FD_CLOEXEC);
    fcntl(ends[1], F_SETFD, FD_CLOEXEC);
    return 0;
}

bool fp__pair_is_full(int error) { return error == ENOBUFS; }

/* poll() does not know whether the other end is full. */
int fp_os_await_room(int end, int timeout_ms) {
    struct timespec while_ago = {.tv_sec = 0, .tv_nsec = 1000000};
    (void)end;
    (void)timeout_ms;
    return nanosleep(&while_ago, NULL) < 0 ? -errno : 0;
}

/* A number of the system's; 0: it doesn't say. */
static uint64_t fp__number(const char *name) {
    uint64_t value = 0; /* both sizes there are; the lower half comes first */
    size_t size = sizeof value;
    return sysctlbyname(name, &value, &size, NULL, 0) < 0 ? 0 : value;
}

int fp_os_cpus(int tid, int *cpus, int room) {
    return tid != 0 ? -ENOTSUP : fp__first_cpus((long)fp__number("hw.activecpu"), cpus, room);
}

uint64_t fp__peak_unit(void) { return 1; }

void fp_os_memory_of_machine(uint64_t *left, uint64_t *total) {
    vm_statistics64_data_t pages;
    mach_msg_type_number_t count = HOST_VM_INFO64_COUNT;
    mach_port_t host = mach_host_self();
    uint64_t memory = fp__number("hw.memsize");
    kern_return_t err = host_statistics64(host, HOST_VM_INFO64, (host_info64_t)&pages, &count);
    mach_port_deallocate(mach_task_self(), host);
    *total = memory > 0 ? memory : UINT64_MAX;
    *left = UINT64_MAX;
    if (err == KERN_SUCCESS) {
        *left = ((uint64_t)pages.free_count + pages.inactive_count) * fp_os_page_size();
    }
}

uint64_t fp_os_memory_of_self(void) {
    task_vm_info_data_t info;
    mach_msg_type_number_t count = TASK_VM_INFO_COUNT;
    kern_return_t err = task_info(mach_task_self(), TASK_VM_INFO, (task_info_t)&info, &count);
    return err == KERN_SUCCESS ? info.phys_footprint : 0;
}

void fp_os_each_library(int (*visit)(const char *path, void *arg), void *arg) {
    for (uint32_t i = 0; i < _dyld_image_count(); i++) {
        const char *path = _dyld_get_image_name(i);
        if (path != NULL && visit(path, arg) != 0) {
            return;
        }
    }
}

bool fp__library_was_used(const char *path) {
    (void)path;
    return true;
}

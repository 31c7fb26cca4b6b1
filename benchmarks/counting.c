/* Counts, in a process that is started with LD_PRELOAD, what it copies and allocates.
 *
 * The counters are 64-bit numbers in a file named after the process in the folder $COUNTING; they
 * are read from outside while it runs. Copies are those of memcpy, memmove and mempcpy, which is
 * what bytes objects, bytearrays, contiguous arrays and libraries in C, C++ and Rust copy with;
 * what a compiler has written out in place is too short to matter here. A loop copies: its speed
 * does not matter either, and nothing but the loop may call what is being counted.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { ALLOCATIONS, ALLOCATED, COPIED, COPIED_BULK, MOVED, READ, WRITTEN, READ_FILE, COUNTERS };
#define BULK 1024 /* bytes of one copy, from which on it counts as one of a body */

static uint64_t before[COUNTERS]; /* until the file is there */
static uint64_t *counters = before;

void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static void count(int which, uint64_t by) {
    __atomic_fetch_add(&counters[which], by, __ATOMIC_RELAXED);
}

static void open_counters(void) {
    const char *folder = getenv("COUNTING");
    char path[4096];
    if (!folder || snprintf(path, sizeof path, "%s/%d", folder, (int)getpid()) >= (int)sizeof path)
        return;
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) return;
    if (!ftruncate(fd, sizeof before)) {
        void *at = mmap(NULL, sizeof before, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (at != MAP_FAILED) counters = at;
    }
    close(fd);
}

static void forked(void) { open_counters(); }

__attribute__((constructor)) static void begin(void) {
    open_counters();
    pthread_atfork(NULL, NULL, forked);
}

/* -- copies ---------------------------------------------------------------------------------- */

static void copied(size_t size) {
    count(COPIED, size);
    if (size >= BULK) count(COPIED_BULK, size);
}

static void *forwards(void *to, const void *from, size_t size) {
    unsigned char *t = to;
    const unsigned char *f = from;
    while (size >= 8) {
        uint64_t word;
        __builtin_memcpy(&word, f, 8);
        __builtin_memcpy(t, &word, 8);
        t += 8, f += 8, size -= 8;
    }
    while (size--) *t++ = *f++;
    return to;
}

void *memcpy(void *restrict to, const void *restrict from, size_t size) {
    copied(size);
    return forwards(to, from, size);
}

void *memmove(void *to, const void *from, size_t size) {
    copied(size);
    if ((uintptr_t)to - (uintptr_t)from >= size) return forwards(to, from, size);
    unsigned char *t = (unsigned char *)to + size;
    const unsigned char *f = (const unsigned char *)from + size;
    while (size--) *--t = *--f;
    return to;
}

void *mempcpy(void *restrict to, const void *restrict from, size_t size) {
    return (char *)memcpy(to, from, size) + size;
}

void *__memcpy_chk(void *to, const void *from, size_t size, size_t room) {
    if (size > room) abort();
    return memcpy(to, from, size);
}

void *__memmove_chk(void *to, const void *from, size_t size, size_t room) {
    if (size > room) abort();
    return memmove(to, from, size);
}

/* -- memory ---------------------------------------------------------------------------------- */

static void allocated(size_t size) {
    count(ALLOCATIONS, 1);
    count(ALLOCATED, size);
}

void *malloc(size_t size) {
    allocated(size);
    return __libc_malloc(size);
}

void *calloc(size_t items, size_t size) {
    allocated(items * size);
    return __libc_calloc(items, size);
}

void *realloc(void *old, size_t size) {
    size_t had = old ? malloc_usable_size(old) : 0;
    allocated(size > had ? size - had : 0);
    void *found = __libc_realloc(old, size);
    /* The kernel may have remapped the pages of a large block: this is the most that was copied. */
    if (found && old && found != old) count(MOVED, had < size ? had : size);
    return found;
}

void *memalign(size_t alignment, size_t size) {
    allocated(size);
    return __libc_memalign(alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size) { return memalign(alignment, size); }

int posix_memalign(void **found, size_t alignment, size_t size) {
    *found = memalign(alignment, size);
    return *found ? 0 : ENOMEM;
}

/* -- system calls that copy ------------------------------------------------------------------ */

#define NEXT(name) __typeof__(&name) next = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define COUNTED(which, call)                        \
    ssize_t size = call;                            \
    if (size > 0) count(which, (uint64_t)size);     \
    return size

ssize_t read(int fd, void *to, size_t room) { COUNTED(READ, syscall(SYS_read, fd, to, room)); }
ssize_t readv(int fd, const struct iovec *to, int parts) {
    COUNTED(READ, syscall(SYS_readv, fd, to, parts));
}
ssize_t recv(int fd, void *to, size_t room, int flags) {
    COUNTED(READ, syscall(SYS_recvfrom, fd, to, room, flags, NULL, NULL));
}
ssize_t recvfrom(int fd, void *restrict to, size_t room, int flags,
                 struct sockaddr *restrict peer, socklen_t *restrict length) {
    COUNTED(READ, syscall(SYS_recvfrom, fd, to, room, flags, peer, length));
}
ssize_t recvmsg(int fd, struct msghdr *to, int flags) {
    COUNTED(READ, syscall(SYS_recvmsg, fd, to, flags));
}
ssize_t pread64(int fd, void *to, size_t room, off64_t at) {
    COUNTED(READ_FILE, syscall(SYS_pread64, fd, to, room, at));
}
ssize_t preadv64(int fd, const struct iovec *to, int parts, off64_t at) {
    NEXT(preadv64);
    COUNTED(READ_FILE, next(fd, to, parts, at));
}
ssize_t write(int fd, const void *from, size_t size_) {
    COUNTED(WRITTEN, syscall(SYS_write, fd, from, size_));
}
ssize_t writev(int fd, const struct iovec *from, int parts) {
    COUNTED(WRITTEN, syscall(SYS_writev, fd, from, parts));
}
ssize_t send(int fd, const void *from, size_t size_, int flags) {
    COUNTED(WRITTEN, syscall(SYS_sendto, fd, from, size_, flags, NULL, 0));
}
ssize_t sendto(int fd, const void *from, size_t size_, int flags, const struct sockaddr *peer,
               socklen_t length) {
    COUNTED(WRITTEN, syscall(SYS_sendto, fd, from, size_, flags, peer, length));
}
ssize_t sendmsg(int fd, const struct msghdr *from, int flags) {
    COUNTED(WRITTEN, syscall(SYS_sendmsg, fd, from, flags));
}
ssize_t pwrite64(int fd, const void *from, size_t size_, off64_t at) {
    COUNTED(WRITTEN, syscall(SYS_pwrite64, fd, from, size_, at));
}

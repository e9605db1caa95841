/* A network share, as far as its round trips go: calls on files below SHARE_ROOT wait.
 *
 * Loaded with LD_PRELOAD. A call that looks at or changes names (open, stat, mkdir, rename,
 * unlink, listing) waits SHARE_META_US; a read or write waits SHARE_DATA_US; closing a file that
 * was written waits once more, as NFS flushes then. At most SHARE_SLOTS calls wait at a time.
 * Creating, renaming and removing hold a lock for their wait, as the kernel holds the lock of a
 * directory while the server answers: one a directory, one for all renames across directories.
 * Calls are counted by kind in the file SHARE_COUNTS.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

enum { OPEN, STAT, MKDIR, RENAME, UNLINK, LIST, READ, WRITE, CLOSE, KINDS };
static const char *NAMES[KINDS] = {"open", "stat", "mkdir", "rename", "unlink",
                                   "list", "read", "write", "close"};
#define FDS 65536
#define LOCKS 1024
static unsigned char on_share[FDS]; /* 1: read so far, 2: written too */
static long counts[KINDS];
static char root[4096];
static size_t root_length;
static long meta_us, data_us;
static sem_t slots;
static pthread_mutex_t locks[LOCKS];
static pthread_mutex_t rename_lock = PTHREAD_MUTEX_INITIALIZER;

static void leave(void) {
    const char *path = getenv("SHARE_COUNTS");
    if (!path || !*path) return;
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open64");
    int fd = real(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (fd < 0) return;
    char line[512];
    int n = 0;
    for (int k = 0; k < KINDS; k++)
        n += snprintf(line + n, sizeof line - n, "%s %ld%s", NAMES[k], counts[k],
                      k + 1 < KINDS ? " " : "\n");
    ssize_t (*put)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    put(fd, line, n);
    close(fd);
}

__attribute__((constructor)) static void begin(void) {
    const char *found = getenv("SHARE_ROOT");
    if (found) snprintf(root, sizeof root, "%s", found);
    root_length = strlen(root);
    found = getenv("SHARE_META_US");
    meta_us = found ? atol(found) : 2000;
    found = getenv("SHARE_DATA_US");
    data_us = found ? atol(found) : 1000;
    found = getenv("SHARE_SLOTS");
    sem_init(&slots, 0, found ? (unsigned)atoi(found) : 10);
    for (int i = 0; i < LOCKS; i++) pthread_mutex_init(&locks[i], NULL);
    atexit(leave);
}

static int is_below(const char *path) {
    return root_length && path && !strncmp(path, root, root_length) &&
           (path[root_length] == '/' || path[root_length] == 0);
}

static void wait_for(int kind) {
    __sync_fetch_and_add(&counts[kind], 1);
    long us = kind == READ || kind == WRITE ? data_us : meta_us;
    int saved = errno;
    sem_wait(&slots);
    struct timespec t = {us / 1000000, us % 1000000 * 1000};
    nanosleep(&t, NULL);
    sem_post(&slots);
    errno = saved;
}

static pthread_mutex_t *lock_of(const char *path) {
    const char *end = strrchr(path, '/');
    uint32_t hash = 2166136261u;
    for (const char *p = path; p < end; p++) hash = (hash ^ (unsigned char)*p) * 16777619u;
    return &locks[hash % LOCKS];
}

static void wait_holding(int kind, pthread_mutex_t *lock) {
    pthread_mutex_lock(lock);
    wait_for(kind);
    pthread_mutex_unlock(lock);
}

static void opened(int fd) {
    if (fd >= 0 && fd < FDS) on_share[fd] = 1;
}

static const char *absolute(int dirfd, const char *path, char *buffer) {
    if (!path || path[0] == '/' || dirfd == AT_FDCWD) return path;
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", dirfd);
    ssize_t n = readlink(link, buffer, 4000);
    if (n <= 0) return path;
    snprintf(buffer + n, 8192 - n, "/%s", path);
    return buffer;
}

#define REAL(name, type, ...) static type (*real)(__VA_ARGS__); \
    if (!real) real = dlsym(RTLD_NEXT, #name)

#define OPENS(name)                                              \
    int name(const char *path, int flags, ...) {                 \
        REAL(name, int, const char *, int, ...);                 \
        va_list more; va_start(more, flags);                     \
        int mode = va_arg(more, int); va_end(more);              \
        int below = is_below(path);                              \
        if (below && flags & O_CREAT) wait_holding(OPEN, lock_of(path)); \
        else if (below) wait_for(OPEN);                          \
        int fd = real(path, flags, mode);                        \
        if (below) opened(fd);                                   \
        else if (fd >= 0 && fd < FDS) on_share[fd] = 0;          \
        return fd;                                               \
    }
OPENS(open)
OPENS(open64)

#define OPENATS(name)                                            \
    int name(int dir, const char *path, int flags, ...) {        \
        REAL(name, int, int, const char *, int, ...);            \
        va_list more; va_start(more, flags);                     \
        int mode = va_arg(more, int); va_end(more);              \
        char buffer[8192];                                       \
        const char *whole = absolute(dir, path, buffer);         \
        int below = is_below(whole);                             \
        if (below && flags & O_CREAT) wait_holding(OPEN, lock_of(whole)); \
        else if (below) wait_for(OPEN);                          \
        int fd = real(dir, path, flags, mode);                   \
        if (below) opened(fd);                                   \
        else if (fd >= 0 && fd < FDS) on_share[fd] = 0;          \
        return fd;                                               \
    }
OPENATS(openat)
OPENATS(openat64)

#define STATS(name, what)                                        \
    int name(const char *path, struct what *into) {              \
        REAL(name, int, const char *, struct what *);            \
        if (is_below(path)) wait_for(STAT);                      \
        return real(path, into);                                 \
    }
STATS(stat, stat)
STATS(stat64, stat64)
STATS(lstat, stat)
STATS(lstat64, stat64)

#define STATATS(name, what)                                      \
    int name(int dir, const char *path, struct what *into, int flags) { \
        REAL(name, int, int, const char *, struct what *, int);  \
        char buffer[8192];                                       \
        if (is_below(absolute(dir, path, buffer)) ||             \
            (path && !*path && dir >= 0 && dir < FDS && on_share[dir])) wait_for(STAT); \
        return real(dir, path, into, flags);                     \
    }
STATATS(fstatat, stat)
STATATS(fstatat64, stat64)

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir, int, const char *, mode_t);
    if (is_below(path)) wait_holding(MKDIR, lock_of(path));
    return real(path, mode);
}

int unlink(const char *path) {
    REAL(unlink, int, const char *);
    if (is_below(path)) wait_holding(UNLINK, lock_of(path));
    return real(path);
}

int unlinkat(int dir, const char *path, int flags) {
    REAL(unlinkat, int, int, const char *, int);
    char buffer[8192];
    const char *whole = absolute(dir, path, buffer);
    if (is_below(whole)) wait_holding(UNLINK, lock_of(whole));
    return real(dir, path, flags);
}

int rmdir(const char *path) {
    REAL(rmdir, int, const char *);
    if (is_below(path)) wait_holding(UNLINK, lock_of(path));
    return real(path);
}

static void wait_to_rename(const char *from, const char *to) {
    const char *a = strrchr(from, '/'), *b = strrchr(to, '/');
    int across = a - from != b - to || strncmp(from, to, a - from);
    if (across) pthread_mutex_lock(&rename_lock);
    wait_holding(RENAME, lock_of(to));
    if (across) pthread_mutex_unlock(&rename_lock);
}

int rename(const char *from, const char *to) {
    REAL(rename, int, const char *, const char *);
    if (is_below(to) && is_below(from)) wait_to_rename(from, to);
    return real(from, to);
}

int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat, int, int, const char *, int, const char *);
    char first[8192], second[8192];
    const char *whole = absolute(b, to, second), *before = absolute(a, from, first);
    if (is_below(whole) && is_below(before)) wait_to_rename(before, whole);
    return real(a, from, b, to);
}

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(renameat2, int, int, const char *, int, const char *, unsigned);
    char first[8192], second[8192];
    const char *whole = absolute(b, to, second), *before = absolute(a, from, first);
    if (is_below(whole) && is_below(before)) wait_to_rename(before, whole);
    return real(a, from, b, to, flags);
}

DIR *opendir(const char *path) {
    REAL(opendir, DIR *, const char *);
    if (is_below(path)) wait_for(LIST);
    return real(path);
}

#define TOUCHES(fd, kind) \
    if (fd >= 0 && fd < FDS && on_share[fd]) { if (kind == WRITE) on_share[fd] = 2; wait_for(kind); }

ssize_t read(int fd, void *into, size_t n) {
    REAL(read, ssize_t, int, void *, size_t);
    TOUCHES(fd, READ)
    return real(fd, into, n);
}

#define PREADS(name, offset)                                     \
    ssize_t name(int fd, void *into, size_t n, offset at) {      \
        REAL(name, ssize_t, int, void *, size_t, offset);        \
        TOUCHES(fd, READ)                                        \
        return real(fd, into, n, at);                            \
    }
PREADS(pread, off_t)
PREADS(pread64, off64_t)

ssize_t readv(int fd, const struct iovec *into, int n) {
    REAL(readv, ssize_t, int, const struct iovec *, int);
    TOUCHES(fd, READ)
    return real(fd, into, n);
}

#define PREADVS(name, offset)                                    \
    ssize_t name(int fd, const struct iovec *into, int n, offset at) { \
        REAL(name, ssize_t, int, const struct iovec *, int, offset); \
        TOUCHES(fd, READ)                                        \
        return real(fd, into, n, at);                            \
    }
PREADVS(preadv, off_t)
PREADVS(preadv64, off64_t)

#define PREADV2S(name, offset)                                   \
    ssize_t name(int fd, const struct iovec *into, int n, offset at, int flags) { \
        REAL(name, ssize_t, int, const struct iovec *, int, offset, int); \
        TOUCHES(fd, READ)                                        \
        return real(fd, into, n, at, flags);                     \
    }
PREADV2S(preadv2, off_t)
PREADV2S(preadv64v2, off64_t)

ssize_t write(int fd, const void *from, size_t n) {
    REAL(write, ssize_t, int, const void *, size_t);
    TOUCHES(fd, WRITE)
    return real(fd, from, n);
}

ssize_t writev(int fd, const struct iovec *from, int n) {
    REAL(writev, ssize_t, int, const struct iovec *, int);
    TOUCHES(fd, WRITE)
    return real(fd, from, n);
}

#define PWRITES(name, offset)                                    \
    ssize_t name(int fd, const void *from, size_t n, offset at) { \
        REAL(name, ssize_t, int, const void *, size_t, offset);  \
        TOUCHES(fd, WRITE)                                       \
        return real(fd, from, n, at);                            \
    }
PWRITES(pwrite, off_t)
PWRITES(pwrite64, off64_t)

int close(int fd) {
    REAL(close, int, int);
    if (fd >= 0 && fd < FDS && on_share[fd]) {
        if (on_share[fd] == 2) wait_for(CLOSE);
        on_share[fd] = 0;
    }
    return real(fd);
}

/* Stops or fails a process at the n-th call by which it changes files: an LD_PRELOAD library for test_crash.py.
 *
 * Counted are the calls below on paths in the folder CRASH_FOLDER (and CRASH_SECOND_FOLDER, if set), from crash_arm on.
 * What a process writes through mmap makes no call and is not seen: of a store that is SQLite's -shm file alone, which
 * is made anew from the log. Neither are the calls seen that libc makes within itself (fopen, posix_fallocate).
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* Kinds of calls, as bits of a mask. */
enum { WRITE = 1, SYNC = 2, NAME = 4, SIZE = 8, MAKE = 16, OPEN = 32 };
enum mode { COUNT, KILL, AFTER, TORN, SHORT, FAIL, FAILALL };
enum verdict { PASS, REFUSE, HALVE, HALVE_AND_DIE, DIE_AFTER };

static struct {
    enum mode mode;
    long at, count;
    int armed, error, kinds, trace;
    char folders[2][PATH_MAX];
} plan;

/* Told of every fsync that was carried out: what it is given survives a power cut. */
static void (*synced)(const char *path);

void crash_tell(void (*whom)(const char *path)) { synced = whom; }

static void die(void) {
    for (;;) syscall(SYS_kill, getpid(), SIGKILL);
}

static void watch(int slot, const char *variable) {
    const char *folder = getenv(variable);
    snprintf(plan.folders[slot], PATH_MAX, "%s", folder ? folder : "");
}

/* Begin to count. `trace` is a file descriptor to list the calls on, or -1. `kinds` are those that FAILALL fails. */
void crash_arm(int mode, long at, int error, int kinds, int trace) {
    watch(0, "CRASH_FOLDER");
    watch(1, "CRASH_SECOND_FOLDER");
    plan.mode = mode, plan.at = at, plan.error = error, plan.kinds = kinds, plan.trace = trace;
    __atomic_store_n(&plan.count, 0, __ATOMIC_SEQ_CST);
    plan.armed = 1;
}

/* End it; return how many calls there were. */
long crash_disarm(void) {
    plan.armed = 0;
    return __atomic_load_n(&plan.count, __ATOMIC_SEQ_CST);
}

static int within(const char *path) {
    for (int i = 0; i < 2; i++) {
        size_t length = strlen(plan.folders[i]);
        if (length && !strncmp(path, plan.folders[i], length) && (path[length] == '/' || !path[length])) return 1;
    }
    return 0;
}

static enum verdict judge(long number, int kind) {
    if (plan.mode == FAILALL && number >= plan.at && (plan.kinds & kind)) return REFUSE;
    if (number != plan.at) return PASS;
    switch (plan.mode) {
    case KILL: die(); return PASS;
    case AFTER: return DIE_AFTER;
    case TORN: return kind == WRITE ? HALVE_AND_DIE : DIE_AFTER;
    case SHORT: return kind == WRITE ? HALVE : PASS;
    case FAIL: return REFUSE;
    default: return PASS;
    }
}

static enum verdict at_path(int kind, const char *call, const char *path, const char *other) {
    if (!plan.armed || (!within(path) && !(other && within(other)))) return PASS;
    long number = __atomic_add_fetch(&plan.count, 1, __ATOMIC_SEQ_CST);
    if (plan.trace >= 0) {
        char line[2 * PATH_MAX + 80];
        int length = snprintf(line, sizeof line, "call\t%ld\t%d\t%s\t%s\t%s\n", number, kind, call, path, other ? other : "");
        syscall(SYS_write, plan.trace, line, (size_t)length);
    }
    enum verdict verdict = judge(number, kind);
    if (verdict == REFUSE) errno = plan.error;
    return verdict;
}

static void path_of(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long length = syscall(SYS_readlink, link, path, (size_t)PATH_MAX - 1);
    path[length > 0 ? length : 0] = 0;
}

static enum verdict at_fd(int kind, const char *call, int fd) {
    if (!plan.armed) return PASS;
    int before = errno;
    char path[PATH_MAX];
    path_of(fd, path);
    errno = before;
    return at_path(kind, call, path, NULL);
}

static const char *full(int fd, const char *path, char *room) {
    if (path[0] == '/') return path;
    char base[PATH_MAX];
    if (fd == AT_FDCWD) {
        if (!getcwd(base, sizeof base)) base[0] = 0;
    } else path_of(fd, base);
    size_t length = strlen(base);
    if (length + strlen(path) + 2 > PATH_MAX) return path;
    memcpy(room, base, length);
    room[length] = '/';
    strcpy(room + length + 1, path);
    return room;
}

static enum verdict at_name(int kind, const char *call, int fd, const char *path, int other_fd, const char *other) {
    if (!plan.armed || !path) return PASS;
    int before = errno, absent = syscall(SYS_faccessat, fd, path, F_OK) != 0;
    errno = before;
    /* Calls that are made to be sure, and change nothing: points all the same. */
    if (absent && !strcmp(call, "unlink")) call = "unlink absent";
    if (!absent && !strcmp(call, "mkdir")) call = "mkdir present";
    char room[PATH_MAX], other_room[PATH_MAX];
    return at_path(kind, call, full(fd, path, room), other ? full(other_fd, other, other_room) : NULL);
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

#define CARRY_OUT(type, judged, whole, half) \
    do { \
        enum verdict v = (judged); \
        if (v == REFUSE) return -1; \
        if (v == HALVE_AND_DIE) { (void)!(half); die(); } \
        if (v == HALVE) return (half); \
        type result = (whole); \
        if (v == DIE_AFTER) die(); \
        return result; \
    } while (0)

/* ---- contents ---- */
static size_t half_of(size_t n) { return n > 1 ? n / 2 : n; }

ssize_t write(int fd, const void *data, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    CARRY_OUT(ssize_t, at_fd(WRITE, "write", fd), real(fd, data, n), real(fd, data, half_of(n)));
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t where) {
    REAL(ssize_t, "pwrite", int, const void *, size_t, off_t);
    CARRY_OUT(ssize_t, at_fd(WRITE, "pwrite", fd), real(fd, data, n, where), real(fd, data, half_of(n), where));
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t where) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    CARRY_OUT(ssize_t, at_fd(WRITE, "pwrite", fd), real(fd, data, n, where), real(fd, data, half_of(n), where));
}

/* Of several pieces half means the first half of the pieces, or half of the only one. */
static struct iovec first_of(const struct iovec *pieces) {
    return (struct iovec){pieces[0].iov_base, half_of(pieces[0].iov_len)};
}

ssize_t writev(int fd, const struct iovec *pieces, int n) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    struct iovec first = n > 0 ? first_of(pieces) : (struct iovec){0};
    CARRY_OUT(ssize_t, at_fd(WRITE, "writev", fd), real(fd, pieces, n), n > 1 ? real(fd, pieces, n / 2) : real(fd, &first, 1));
}

ssize_t pwritev(int fd, const struct iovec *pieces, int n, off_t where) {
    REAL(ssize_t, "pwritev", int, const struct iovec *, int, off_t);
    struct iovec first = n > 0 ? first_of(pieces) : (struct iovec){0};
    CARRY_OUT(ssize_t, at_fd(WRITE, "pwritev", fd), real(fd, pieces, n, where),
              n > 1 ? real(fd, pieces, n / 2, where) : real(fd, &first, 1, where));
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int n, off64_t where) { return pwritev(fd, pieces, n, where); }

ssize_t copy_file_range(int from, off64_t *from_where, int fd, off64_t *where, size_t n, unsigned flags) {
    REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
    CARRY_OUT(ssize_t, at_fd(WRITE, "copy_file_range", fd), real(from, from_where, fd, where, n, flags),
              real(from, from_where, fd, where, half_of(n), flags));
}

/* ---- calls that are carried out or not ---- */
#define WHOLE(judged, call) CARRY_OUT(int, judged, call, call)

static int sync_and_tell(int (*real)(int), int fd) {
    int result = real(fd);
    if (synced && plan.armed && !result) {
        char path[PATH_MAX];
        path_of(fd, path);
        if (within(path)) synced(path);
    }
    return result;
}

int fsync(int fd) { REAL(int, "fsync", int); WHOLE(at_fd(SYNC, "fsync", fd), sync_and_tell(real, fd)); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); WHOLE(at_fd(SYNC, "fdatasync", fd), sync_and_tell(real, fd)); }
int ftruncate(int fd, off_t n) { REAL(int, "ftruncate", int, off_t); WHOLE(at_fd(SIZE, "ftruncate", fd), real(fd, n)); }
int ftruncate64(int fd, off64_t n) { REAL(int, "ftruncate64", int, off64_t); WHOLE(at_fd(SIZE, "ftruncate", fd), real(fd, n)); }
int fallocate(int fd, int mode, off_t at, off_t n) {
    REAL(int, "fallocate", int, int, off_t, off_t);
    WHOLE(at_fd(SIZE, "fallocate", fd), real(fd, mode, at, n));
}
int fchmod(int fd, mode_t mode) { REAL(int, "fchmod", int, mode_t); WHOLE(at_fd(NAME, "fchmod", fd), real(fd, mode)); }

#define BY_NAME(kind, name, path) at_name(kind, name, AT_FDCWD, path, 0, NULL)
#define BY_NAMES(name, a, b) at_name(NAME, name, AT_FDCWD, a, AT_FDCWD, b)

int truncate(const char *path, off_t n) {
    REAL(int, "truncate", const char *, off_t);
    WHOLE(BY_NAME(SIZE, "truncate", path), real(path, n));
}
int unlink(const char *path) { REAL(int, "unlink", const char *); WHOLE(BY_NAME(NAME, "unlink", path), real(path)); }
int rmdir(const char *path) { REAL(int, "rmdir", const char *); WHOLE(BY_NAME(NAME, "rmdir", path), real(path)); }
int remove(const char *path) { REAL(int, "remove", const char *); WHOLE(BY_NAME(NAME, "unlink", path), real(path)); }
int unlinkat(int fd, const char *path, int flags) {
    REAL(int, "unlinkat", int, const char *, int);
    WHOLE(at_name(NAME, "unlink", fd, path, 0, NULL), real(fd, path, flags));
}
int mkdir(const char *path, mode_t mode) {
    REAL(int, "mkdir", const char *, mode_t);
    WHOLE(BY_NAME(MAKE, "mkdir", path), real(path, mode));
}
int mkdirat(int fd, const char *path, mode_t mode) {
    REAL(int, "mkdirat", int, const char *, mode_t);
    WHOLE(at_name(MAKE, "mkdir", fd, path, 0, NULL), real(fd, path, mode));
}
int rename(const char *from, const char *to) {
    REAL(int, "rename", const char *, const char *);
    WHOLE(BY_NAMES("rename", from, to), real(from, to));
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(int, "renameat", int, const char *, int, const char *);
    WHOLE(at_name(NAME, "rename", a, from, b, to), real(a, from, b, to));
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    REAL(int, "renameat2", int, const char *, int, const char *, unsigned);
    WHOLE(at_name(NAME, "rename", a, from, b, to), real(a, from, b, to, flags));
}
int link(const char *from, const char *to) {
    REAL(int, "link", const char *, const char *);
    WHOLE(BY_NAMES("link", from, to), real(from, to));
}
int linkat(int a, const char *from, int b, const char *to, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    WHOLE(at_name(NAME, "link", a, from, b, to), real(a, from, b, to, flags));
}
int symlink(const char *to, const char *path) {
    REAL(int, "symlink", const char *, const char *);
    WHOLE(BY_NAME(MAKE, "symlink", path), real(to, path));
}

/* ---- files that are made; one that is there and is opened so is a point too, but tells so ---- */
static enum verdict at_open(int fd, const char *path, int flags) {
    if (!plan.armed || !(flags & (O_CREAT | O_TRUNC))) return PASS;
    int before = errno;
    const char *call = syscall(SYS_faccessat, fd, path, F_OK) ? "create" : flags & O_TRUNC ? "truncate" : "open";
    errno = before;
    return at_name(call[0] == 'o' ? OPEN : MAKE, call, fd, path, 0, NULL);
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "open", const char *, int, ...);
    WHOLE(at_open(AT_FDCWD, path, flags), real(path, flags, mode));
}
int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "open64", const char *, int, ...);
    WHOLE(at_open(AT_FDCWD, path, flags), real(path, flags, mode));
}
int openat(int fd, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "openat", int, const char *, int, ...);
    WHOLE(at_open(fd, path, flags), real(fd, path, flags, mode));
}
int openat64(int fd, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(int, "openat64", int, const char *, int, ...);
    WHOLE(at_open(fd, path, flags), real(fd, path, flags, mode));
}
int creat(const char *path, mode_t mode) { return open(path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* Faults between a program and its files: fail, kill or log what it writes below one directory.
 *
 * Loaded with LD_PRELOAD, and off until told what to do through the functions at the end (see shim.py). Every call
 * that changes a file counts as one step: writes, syncs, truncations, and making, renaming or removing a name.
 * Reads never do. The file a descriptor stands for is looked up in /proc/self/fd, so nothing has to be remembered.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OFF = 0, COUNT = 1, FAIL = 2, KILL = 3 };
enum { BEFORE = 0, AFTER = 1, HALF = 2 };

static char root[PATH_MAX];
static size_t root_length;
static int mode;
static long first, last, steps; /* steps `first` to `last` fail; step `first` kills */
static int error_number, moment;
static int log_file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

#define REAL(type, name, ...) \
  static type (*real)(__VA_ARGS__); \
  if (!real) real = (type(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static ssize_t really_write(int file, const void *data, size_t size) {
  REAL(ssize_t, "write", int, const void *, size_t);
  return real(file, data, size);
}

static int below(const char *path) {
  return root_length && !strncmp(path, root, root_length) && (path[root_length] == '/' || !path[root_length]);
}

/* The watched path of a descriptor, or of a name relative to one, in `path`; 0 when it is not watched. */
static int of_file(int file, char *path) {
  char link[64];
  if (!mode && log_file < 0) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  ssize_t length = readlink(link, path, PATH_MAX - 1);
  if (length <= 0) return 0;
  path[length] = 0;
  return below(path);
}

static int of_name(int directory, const char *name, char *path) {
  if (!mode && log_file < 0) return 0;
  if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    char base[PATH_MAX];
    if (directory == AT_FDCWD) {
      if (!getcwd(base, sizeof base)) return 0;
    } else {
      char link[64];
      snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
      ssize_t length = readlink(link, base, sizeof base - 1);
      if (length <= 0) return 0;
      base[length] = 0;
    }
    if (snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX) return 0;
  }
  return below(path);
}

struct record {
  char kind;
  char synced; /* written through a descriptor that syncs every write */
  int16_t error;
  uint32_t path, data;
  int64_t at;
};

static void note(char kind, int synced, int error, const char *path, int64_t at, const void *data, size_t size) {
  if (log_file < 0) return;
  int kept = errno;
  struct record head = {kind, (char)synced, (int16_t)error, (uint32_t)strlen(path), (uint32_t)size, at};
  pthread_mutex_lock(&lock);
  really_write(log_file, &head, sizeof head);
  really_write(log_file, path, head.path);
  if (size) really_write(log_file, data, size);
  pthread_mutex_unlock(&lock);
  errno = kept;
}

/* What becomes of the next step: 0 go on, 1 fail with errno set, 2 kill half way, 3 kill afterwards. */
static int step(char kind) {
  if (!mode) return 0;
  long number = __atomic_add_fetch(&steps, 1, __ATOMIC_SEQ_CST);
  if (mode == FAIL && number >= first && number <= last && !(kind == 'U' && error_number == ENOSPC)) {
    errno = error_number;
    return 1;
  }
  if (mode == KILL && number == first) {
    if (moment == BEFORE) kill(getpid(), SIGKILL);
    return moment == HALF ? 2 : 3;
  }
  return 0;
}

static void die(void) { kill(getpid(), SIGKILL); }

static int is_synced(int file) { return (fcntl(file, F_GETFL) & (O_SYNC | O_DSYNC)) != 0; }

/* One write of whatever kind: `call` makes it with `size` bytes at most. */
#define WRITE(file, data, size, at, short_call, call) \
  do { \
    char path[PATH_MAX]; \
    if (!of_file(file, path)) return call; \
    int then = step('W'), synced = is_synced(file); \
    if (then == 1) { \
      /* A full disk takes what still fits. */ \
      if (error_number == ENOSPC && (steps & 1) && (size) > 1) { \
        int kept = errno; \
        ssize_t part = short_call; \
        if (part > 0) note('W', synced, 0, path, at, data, (size_t)part); \
        errno = kept; \
        if (part > 0) return part; \
      } \
      note('w', synced, errno, path, at, data, size); \
      return -1; \
    } \
    if (then == 2) { short_call; die(); } \
    int64_t place = at; \
    ssize_t done = call; \
    if (done >= 0) note('W', synced, 0, path, place, data, (size_t)done); \
    if (then == 3) die(); \
    return done; \
  } while (0)

ssize_t write(int file, const void *data, size_t size) {
  WRITE(file, data, size, lseek(file, 0, SEEK_CUR), really_write(file, data, size / 2), really_write(file, data, size));
}

static ssize_t write_at(int file, const void *data, size_t size, off64_t at) {
  REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
  return real(file, data, size, at);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
  WRITE(file, data, size, at, write_at(file, data, size / 2, at), write_at(file, data, size, at));
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) { return pwrite64(file, data, size, at); }

/* Vectors are written one element after the other, each a step of its own: the whole may be cut anywhere. */
static ssize_t write_vector(int file, const struct iovec *vector, int count, off64_t at, int placed) {
  ssize_t done = 0;
  for (int i = 0; i < count; i++) {
    const char *data = vector[i].iov_base;
    ssize_t part = placed ? pwrite64(file, data, vector[i].iov_len, at + done) : write(file, data, vector[i].iov_len);
    if (part < 0) return done ? done : -1;
    done += part;
    if ((size_t)part < vector[i].iov_len) break;
  }
  return done;
}

ssize_t writev(int file, const struct iovec *vector, int count) {
  char path[PATH_MAX];
  REAL(ssize_t, "writev", int, const struct iovec *, int);
  if (!of_file(file, path)) return real(file, vector, count);
  return write_vector(file, vector, count, 0, 0);
}

ssize_t pwritev64(int file, const struct iovec *vector, int count, off64_t at) {
  char path[PATH_MAX];
  REAL(ssize_t, "pwritev64", int, const struct iovec *, int, off64_t);
  if (!of_file(file, path)) return real(file, vector, count, at);
  return write_vector(file, vector, count, at, 1);
}

ssize_t pwritev(int file, const struct iovec *vector, int count, off_t at) {
  return pwritev64(file, vector, count, at);
}

/* Copies inside the kernel are refused, so that the program writes what it copies itself. */
ssize_t sendfile64(int out, int in, off64_t *at, size_t size) {
  char path[PATH_MAX];
  REAL(ssize_t, "sendfile64", int, int, off64_t *, size_t);
  if (!of_file(out, path)) return real(out, in, at, size);
  errno = ENOTSOCK;
  return -1;
}

ssize_t sendfile(int out, int in, off_t *at, size_t size) { return sendfile64(out, in, at, size); }

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags) {
  char path[PATH_MAX];
  REAL(ssize_t, "copy_file_range", int, off64_t *, int, off64_t *, size_t, unsigned);
  if (!of_file(out, path)) return real(in, from, out, to, size, flags);
  errno = EXDEV;
  return -1;
}

/* A call without data: `kind` is what the log calls it, small where it failed. */
#define PLAIN(watched, kind, path, at, other, length, call) \
  do { \
    if (!(watched)) return call; \
    int then = step(kind); \
    if (then == 1) { \
      note((char)((kind) | 32), 0, errno, path, at, other, length); \
      return -1; \
    } \
    if (then == 2) die(); \
    int done = call; \
    if (done >= 0) note(kind, 0, 0, path, at, other, length); \
    if (then == 3) die(); \
    return done; \
  } while (0)

int fsync(int file) {
  char path[PATH_MAX];
  REAL(int, "fsync", int);
  PLAIN(of_file(file, path), 'S', path, 0, NULL, 0, real(file));
}

int fdatasync(int file) {
  char path[PATH_MAX];
  REAL(int, "fdatasync", int);
  PLAIN(of_file(file, path), 'S', path, 0, NULL, 0, real(file));
}

int msync(void *address, size_t size, int flags) {
  REAL(int, "msync", void *, size_t, int);
  PLAIN(mode != OFF, 'M', "", 0, NULL, 0, real(address, size, flags));
}

int ftruncate64(int file, off64_t size) {
  char path[PATH_MAX];
  REAL(int, "ftruncate64", int, off64_t);
  PLAIN(of_file(file, path), 'T', path, size, NULL, 0, real(file, size));
}

int ftruncate(int file, off_t size) { return ftruncate64(file, size); }

static int make(int directory, const char *name, int flags, mode_t rights) {
  char path[PATH_MAX];
  REAL(int, "openat64", int, const char *, int, ...);
  if (!(flags & O_CREAT)) return real(directory, name, flags, rights);
  int watched = of_name(directory, name, path);
  struct stat status;
  if (watched && !(flags & O_TRUNC) && !fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW))
    return real(directory, name, flags, rights); /* it is there already: nothing is made */
  PLAIN(watched, 'C', path, (flags & O_TRUNC) != 0, NULL, 0, real(directory, name, flags, rights));
}

#define RIGHTS(rights, flags) \
  mode_t rights = 0; \
  if ((flags) & (O_CREAT | O_TMPFILE)) { \
    va_list more; \
    va_start(more, flags); \
    rights = va_arg(more, mode_t); \
    va_end(more); \
  }

int open(const char *name, int flags, ...) {
  RIGHTS(rights, flags)
  return make(AT_FDCWD, name, flags, rights);
}

int open64(const char *name, int flags, ...) {
  RIGHTS(rights, flags)
  return make(AT_FDCWD, name, flags, rights);
}

int openat(int directory, const char *name, int flags, ...) {
  RIGHTS(rights, flags)
  return make(directory, name, flags, rights);
}

int openat64(int directory, const char *name, int flags, ...) {
  RIGHTS(rights, flags)
  return make(directory, name, flags, rights);
}

static int move(int from, const char *old, int to, const char *new) {
  char path[PATH_MAX], other[PATH_MAX];
  REAL(int, "renameat", int, const char *, int, const char *);
  int watched = of_name(from, old, path);
  watched |= of_name(to, new, other);
  PLAIN(watched, 'R', path, 0, other, strlen(other), real(from, old, to, new));
}

int rename(const char *old, const char *new) { return move(AT_FDCWD, old, AT_FDCWD, new); }
int renameat(int from, const char *old, int to, const char *new) { return move(from, old, to, new); }

static int remove_name(int directory, const char *name, int flags) {
  char path[PATH_MAX];
  REAL(int, "unlinkat", int, const char *, int);
  PLAIN(of_name(directory, name, path), 'U', path, 0, NULL, 0, real(directory, name, flags));
}

int unlink(const char *name) { return remove_name(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return remove_name(AT_FDCWD, name, AT_REMOVEDIR); }
int unlinkat(int directory, const char *name, int flags) { return remove_name(directory, name, flags); }

static int make_directory(int directory, const char *name, mode_t rights) {
  char path[PATH_MAX];
  struct stat status;
  REAL(int, "mkdirat", int, const char *, mode_t);
  if (!fstatat(directory, name, &status, AT_SYMLINK_NOFOLLOW)) return real(directory, name, rights);
  PLAIN(of_name(directory, name, path), 'D', path, 0, NULL, 0, real(directory, name, rights));
}

int mkdir(const char *name, mode_t rights) { return make_directory(AT_FDCWD, name, rights); }
int mkdirat(int directory, const char *name, mode_t rights) { return make_directory(directory, name, rights); }

/* What to do. Set before threads are started; nothing here is for two threads at once. */

void crash_watch(const char *path) {
  snprintf(root, sizeof root, "%s", path);
  root_length = strlen(root);
}

void crash_fail(long from, long to, int error) {
  first = from, last = to, error_number = error, steps = 0, mode = FAIL;
}

void crash_kill(long at, int when) { first = at, moment = when, steps = 0, mode = KILL; }

void crash_count(void) { steps = 0, mode = COUNT; }

void crash_log(int file) { log_file = file; }

void crash_note(const char *text) { note('A', 0, 0, text, 0, NULL, 0); }

long crash_off(void) {
  mode = OFF;
  return steps;
}

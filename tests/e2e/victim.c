/* Does what its arguments say, one call each, and prints what the kernel answered.
   Built static by the tests; its only purpose is to be gated. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <unistd.h>

static long result_of(long value) { return value < 0 ? -errno : value; }

static long try_connect(void) {
    struct sockaddr_in peer = {.sin_family = AF_INET, .sin_port = htons(9)};
    inet_pton(AF_INET, "127.0.0.1", &peer.sin_addr);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    return result_of(connect(fd, (struct sockaddr *)&peer, sizeof peer));
}

static void *many(void *count) {
    for (long i = 0; i < (long)count; i++) syscall(SYS_getppid);
    return NULL;
}

static long try_threads(long count) {
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) pthread_create(&threads[i], NULL, many, (void *)count);
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    return 0;
}

/* The classic way out of a chroot: 0 if the root stays what it was. */
static long try_escape(void) {
    struct stat before, after;
    stat("/", &before);
    mkdir("/escape", 0755);
    if (chroot("/escape")) return result_of(-1);
    for (int i = 0; i < 64; i++)
        if (chdir("..")) return result_of(-1);
    if (chroot(".")) return result_of(-1);
    stat("/", &after);
    return before.st_dev != after.st_dev || before.st_ino != after.st_ino;
}

/* For as long as it lives: count gated calls that have returned, in a file. */
static long count_calls(const char *path, int is_held) {
    int fd = open(path, O_RDWR | O_CREAT, 0666);
    if (fd < 0 || ftruncate(fd, 4096)) return result_of(-1);
    volatile long *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    for (;;) {
        if (is_held) {
            fsync(1);
            usleep(500);
            ++*count;
        } else if (syscall(SYS_getppid) >= 0) {
            ++*count;
        }
    }
}

/* The same, though its parent may be gone. */
static long try_hide(const char *path) {
    if (prctl(PR_SET_PDEATHSIG, 0)) return result_of(-1);
    return count_calls(path, 0);
}

/* Calls that the kernel did not run, of `count`. */
static long count_interrupted(long count) {
    long found = 0;
    for (long i = 0; i < count; i++) found += syscall(SYS_getppid) < 0;
    return found;
}

static long act(const char *what, const char *value) {
    long number = atol(value);
    if (!strcmp(what, "getppid")) { many((void *)number); return 0; }
    if (!strcmp(what, "hide")) return try_hide(value);
    if (!strcmp(what, "records")) return count_calls(value, 0);
    if (!strcmp(what, "holds")) return count_calls(value, 1);
    if (!strcmp(what, "interrupted")) return count_interrupted(number);
    if (!strcmp(what, "threads")) return try_threads(number);
    if (!strcmp(what, "fsync")) return result_of(fsync(1));
    if (!strcmp(what, "mkdir")) return result_of(syscall(SYS_mkdirat, AT_FDCWD, value, 0755));
    if (!strcmp(what, "unlink")) return result_of(syscall(SYS_unlinkat, AT_FDCWD, value, 0));
    if (!strcmp(what, "symlink")) return result_of(syscall(SYS_symlinkat, "x", AT_FDCWD, value));
    if (!strcmp(what, "connect")) return try_connect();
    if (!strcmp(what, "escape")) return try_escape();
    if (!strcmp(what, "clone3")) return result_of(syscall(SYS_clone3, NULL, 0));
    if (!strcmp(what, "io_uring")) return result_of(syscall(425, 8, NULL));
    if (!strcmp(what, "listener")) return result_of(syscall(SYS_seccomp, 1, 8, NULL));
    if (!strcmp(what, "unknown")) return result_of(syscall(99999));
#ifdef __x86_64__
    if (!strcmp(what, "x32")) return result_of(syscall(0x40000000 | 39));
    if (!strcmp(what, "int80")) {
        long out;
        __asm__ volatile("int $0x80" : "=a"(out) : "a"(20L) : "memory");
        return out;
    }
#endif
    fprintf(stderr, "victim: what is %s?\n", what);
    exit(2);
}

int main(int argc, char **argv) {
    for (int i = 1; i + 1 < argc; i += 2) {
        long result = act(argv[i], argv[i + 1]);
        printf("%s %ld\n", argv[i], result);
        fflush(stdout);
    }
    return 0;
}

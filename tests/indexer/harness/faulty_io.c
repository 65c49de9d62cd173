/* Loaded before libc (LD_PRELOAD): counts the calls that change a folder's files on disk, SQLite's included,
 * and at a chosen one kills the process, or lets it and all that follow fail as a full or a broken disk does.
 * Built and armed by disk_faults.py.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static char folder[4096];
static long calls, fatal_call; /* counted from 1; 0: only count */
static int kind;               /* an errno to fail with, or 0: kill the process */
static enum { WRITES = 1, SYNCS = 2 } counted; /* bits: which calls count and strike */

void faulty_io_arm(const char *path, long call, int error, int which)
{
    snprintf(folder, sizeof folder, "%s", path);
    calls = 0;
    fatal_call = call;
    kind = error;
    counted = which;
}

long faulty_io_calls(void) { return calls; }

/* 0, or what the call has to fail with. */
static int strike(int descriptor, int which)
{
    char link[64], path[4096];
    ssize_t length;

    if (!folder[0] || !(counted & which))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (strncmp(path, folder, strlen(folder)))
        return 0;
    calls = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!fatal_call || calls < fatal_call)
        return 0;
    if (!kind)
        kill(getpid(), SIGKILL);
    return kind;
}

#define REAL(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))
#define WRAPPED(type, name, parameters, arguments, which)            \
    type name parameters                                             \
    {                                                                \
        int error = strike(descriptor, which);                       \
        if (error) {                                                 \
            errno = error;                                           \
            return -1;                                               \
        }                                                            \
        return REAL(name) arguments;                                 \
    }

WRAPPED(ssize_t, write, (int descriptor, const void *data, size_t size), (descriptor, data, size), WRITES)
WRAPPED(ssize_t, pwrite, (int descriptor, const void *data, size_t size, off_t at),
        (descriptor, data, size, at), WRITES)
WRAPPED(ssize_t, pwrite64, (int descriptor, const void *data, size_t size, off64_t at),
        (descriptor, data, size, at), WRITES)
WRAPPED(int, ftruncate, (int descriptor, off_t size), (descriptor, size), WRITES)
WRAPPED(int, ftruncate64, (int descriptor, off64_t size), (descriptor, size), WRITES)
WRAPPED(int, fsync, (int descriptor), (descriptor), SYNCS)
WRAPPED(int, fdatasync, (int descriptor), (descriptor), SYNCS)

/*
 * What both of our process 1 do alike: time, descriptors, limits, and the checks of a probe.
 * Included once per program; nothing here allocates or buffers.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif

#define MAYBE_UNUSED __attribute__((unused))

enum { REFUSED = 125 };

static const uint64_t SECOND = 1000000000ull;

MAYBE_UNUSED static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

MAYBE_UNUSED static void close_from(unsigned first)
{
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX);
    for (long fd = first; fd < (most > 0 ? most : 65536); fd++)
        close((int)fd);
}

MAYBE_UNUSED static void limit(int what, uint64_t value)
{
    struct rlimit both;
    /* Nobody can raise a hard limit: what the service itself may not do stays the bound. */
    if (getrlimit(what, &both) == 0 && both.rlim_max < value)
        value = both.rlim_max;
    both.rlim_cur = both.rlim_max = value;
    setrlimit(what, &both);
}

/* The bounds that are the same wherever a script runs. */
MAYBE_UNUSED static void limit_script(uint64_t open_files, uint64_t file_bytes)
{
    limit(RLIMIT_NOFILE, open_files);
    limit(RLIMIT_FSIZE, file_bytes);
    limit(RLIMIT_CORE, 1); /* 1, not 0: a dump handler behind a pipe is not bound by 0 */
    limit(RLIMIT_SIGPENDING, 256);
    limit(RLIMIT_MSGQUEUE, 65536);
    limit(RLIMIT_MEMLOCK, 65536);
}

MAYBE_UNUSED static void term_all(void)
{
    kill(-1, SIGTERM);
    kill(-1, SIGCONT); /* who is stopped would not hear it */
}

/* ----------------------------------------------------------------- probes */

MAYBE_UNUSED static void tell(const char *check, int good, const char *seen)
{
    char line[256];
    int n = snprintf(line, sizeof line, "%s %s %s\n", good ? "ok" : "bad", check, seen);
    if (n > 0 && write(1, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        _exit(1);
}

MAYBE_UNUSED static void tell_refused(const char *check, long result, int want_a, int want_b)
{
    int seen = result >= 0 ? 0 : errno;
    tell(check, result < 0 && (seen == want_a || seen == want_b || want_a == 0),
         result < 0 ? strerror(seen) : "allowed");
}

MAYBE_UNUSED static int slurp(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t total = 0, n;
    while ((size_t)total < room - 1 && (n = read(fd, text + total, room - 1 - (size_t)total)) > 0)
        total += n;
    close(fd);
    text[total] = 0;
    return (int)total;
}

MAYBE_UNUSED static int is_status(const char *text, const char *field, const char *value)
{
    const char *at = strstr(text, field);
    if (!at)
        return 0;
    at += strlen(field);
    while (*at == '\t' || *at == ' ')
        at++;
    return strncmp(at, value, strlen(value)) == 0 && (at[strlen(value)] == '\n');
}

MAYBE_UNUSED static int lines(const char *text)
{
    int n = 0;
    for (; *text; text++)
        n += *text == '\n';
    return n;
}

/* What the kernel itself says of the process that asks; `text` is room for it. */
MAYBE_UNUSED static void tell_rights(char *text, size_t room)
{
    static const char zero[] = "0000000000000000";

    slurp("/proc/self/status", text, room);
    tell("capabilities",
         is_status(text, "CapEff:", zero) && is_status(text, "CapPrm:", zero) &&
             is_status(text, "CapInh:", zero) && is_status(text, "CapAmb:", zero) &&
             is_status(text, "CapBnd:", zero),
         "every set must be empty");
    tell("no_new_privileges", is_status(text, "NoNewPrivs:", "1"), "must be 1");
    tell("seccomp", is_status(text, "Seccomp:", "2"), "must be 2");
}

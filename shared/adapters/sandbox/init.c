/*
 * The two ends of a sandbox, in one static binary.
 *
 *   enter   runs outside, before bubblewrap: joins the resource groups, gives up every right
 *           and every descriptor that the sandbox must not have, then becomes bubblewrap.
 *   init    runs inside as process 1: starts the script, keeps its clock, ends everything,
 *           reports the raw facts. It is not dumpable, so the script cannot look into it.
 *   probe   runs inside as "the script" once at start-up and prints one line per check.
 *
 * No allocation and no buffered output: every byte that leaves is written by one system call.
 * The control channel carries the two fixed records below; run.py knows them.
 */
#include "process.h"

#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>

#ifndef SYS_clone3
#define SYS_clone3 435
#endif

enum { CONTROL = 3 };
enum { SAY_STARTED = 1, SAY_NOT_STARTED = 2, SAY_ENDED = 3 };
/* The first one that is noted stays: it is what explains the kill that follows. */
enum { CAUSE_NONE = 0, CAUSE_DEADLINE = 1, CAUSE_CANCEL = 2, CAUSE_FLOOD = 3, CAUSE_MEMORY = 4 };

static const uint64_t DEADLINE_GRACE = 2000000000ull;

struct report {
    uint32_t kind;
    uint32_t cause;
    int32_t status;
    int32_t error;
    uint64_t wall_ns;
    uint64_t cpu_us;
    uint64_t maxrss_kb;
};

struct order {
    uint32_t cause;
    uint32_t grace_ms;
};

static void refuse(const char *what, const char *which)
{
    char line[512];
    int n = snprintf(line, sizeof line, "sandbox: %s %s: %s\n", what, which, strerror(errno));
    if (n > 0 && write(2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1) < 0)
        _exit(REFUSED);
    _exit(REFUSED);
}

/* ------------------------------------------------------------------ enter */

static void place_descriptors(char *list)
{
    int wanted[64], count = 0;
    for (char *one = strtok(list, ","); one; one = strtok(NULL, ",")) {
        if (count == 64) {
            errno = E2BIG;
            refuse("taking", "descriptors");
        }
        wanted[count++] = atoi(one);
    }
    /* First out of the way of all targets, else an early dup2 would overwrite a later source. */
    for (int i = 0; i < count; i++)
        if ((wanted[i] = fcntl(wanted[i], F_DUPFD, count)) < 0)
            refuse("taking", "a descriptor");
    for (int i = 0; i < count; i++)
        if (dup2(wanted[i], i) < 0)
            refuse("placing", "a descriptor");
    close_from((unsigned)count);
}

static void write_file(const char *path, const char *text, int must)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, text, strlen(text)) < 0) {
        if (must)
            refuse("joining", path);
    }
    if (fd >= 0)
        close(fd);
}

/*
 * A group of the unified tree is entered by being born in it: moving a process there waits for
 * every processor to notice, some ten milliseconds, and birth does not. The one who was spawned
 * stays outside, empty-handed, until the one inside has ended, and passes its status on.
 */
static void be_born_in(const char *group)
{
    struct {
        uint64_t flags, pidfd, child_tid, parent_tid, exit_signal;
        uint64_t stack, stack_size, tls, set_tid, set_tid_size, cgroup;
    } how = {0};
    int fd = open(group, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        refuse("joining", group);
    how.flags = 0x200000000ull; /* CLONE_INTO_CGROUP */
    how.exit_signal = SIGCHLD;
    how.cgroup = (uint64_t)fd;
    pid_t self = getpid();
    long child = syscall(SYS_clone3, &how, sizeof how);
    if (child < 0) {
        /* An older kernel, or a filter around us: the slow way is open still. */
        char procs[4096];
        snprintf(procs, sizeof procs, "%s%s", group, "/cgroup.procs");
        close(fd);
        write_file(procs, "0", 1);
        return;
    }
    if (child == 0) {
        close(fd);
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (getppid() != self)
            _exit(REFUSED);
        return;
    }
    int status = 0, last = REFUSED << 8;
    close_from(0);
    /* Should bubblewrap be killed, its process 1 comes to us to be reaped, not to the machine's. */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    for (;;) {
        pid_t gone = waitpid(-1, &status, 0);
        if (gone == (pid_t)child)
            last = status;
        if (gone < 0 && errno == ECHILD)
            break;
    }
    _exit(WIFEXITED(last) ? WEXITSTATUS(last) : REFUSED);
}

static void join(const char *group)
{
    struct stat found;
    if (stat(group, &found) == 0 && S_ISDIR(found.st_mode))
        be_born_in(group);
    else
        write_file(group, "0", 1);
}

/*
 * Show folders that only root can walk to at places that the slot's user can: in a mount
 * namespace of its own, so that nobody else sees them and nothing is left when it ends.
 */
static void show(int count, char **pairs)
{
    if (count == 0)
        return;
    if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
        refuse("making", "a mount namespace");
    for (int i = 0; i < count; i++)
        if (mount(pairs[2 * i], pairs[2 * i + 1], NULL, MS_BIND, NULL) != 0)
            refuse("showing", pairs[2 * i]);
}

/*
 * enter PARENT DESCRIPTORS UID GID GROUPS [GROUP...] MOUNTS [FROM TO...] -- COMMAND...
 * UID -1 keeps the caller's; a GROUP is a file to write to, or a folder to be born in.
 */
static int enter(int argc, char **argv)
{
    if (argc < 9)
        return REFUSED;
    pid_t parent = (pid_t)atoi(argv[2]);
    long uid = atol(argv[4]), gid = atol(argv[5]);
    int groups = atoi(argv[6]), at = 7;

    /* Before anything is allocated or forked, so that all of it is counted. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(REFUSED); /* it died before the line above: nobody would end us */
    for (int i = 0; i < groups; i++)
        join(argv[at++]);
    parent = getppid();
    int mounts = atoi(argv[at++]);
    show(mounts, argv + at);
    at += 2 * mounts;
    place_descriptors(argv[3]);
    write_file("/proc/self/oom_score_adj", "500", 0);

    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    umask(022);
    setsid();
    if (chdir("/") != 0)
        refuse("entering", "/");
    if (uid >= 0) {
        if (setgroups(0, NULL) != 0 || setresgid(gid, gid, gid) != 0 ||
            setresuid(uid, uid, uid) != 0)
            refuse("becoming", argv[4]);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        refuse("giving up", "new privileges");
    /* After the change of uid, which clears it. */
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    if (getppid() != parent)
        _exit(REFUSED);

    char *nothing[] = {NULL};
    execve(argv[at + 1], argv + at + 1, nothing);
    refuse("starting", argv[at + 1]);
    return REFUSED;
}

/* ------------------------------------------------------------------- init */

static void on_child(int sig)
{
    (void)sig; /* its only work is to wake ppoll */
}

struct plan {
    uint64_t timeout_ns, processes, open_files, file_bytes, data_bytes;
    char **command, **environment;
};

static void become_script(const struct plan *plan, volatile int *failed)
{
    sigset_t none;
    setsid();
    limit(RLIMIT_NPROC, plan->processes);
    limit_script(plan->open_files, plan->file_bytes);
    if (plan->data_bytes)
        limit(RLIMIT_DATA, plan->data_bytes);
    signal(SIGCHLD, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    execve(plan->command[0], plan->command, plan->environment);
    *failed = errno;
    _exit(127);
}

static void say(const struct report *report)
{
    while (send(CONTROL, report, sizeof *report, MSG_NOSIGNAL) < 0 && errno == EINTR)
        ;
}

static int init(int argc, char **argv)
{
    struct report report = {0};
    struct plan plan;
    volatile int failed = 0;
    char *environment[256];

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    close_from(CONTROL + 1);
    fcntl(CONTROL, F_SETFD, FD_CLOEXEC);
    if (argc < 9)
        return REFUSED;
    plan.timeout_ns = strtoull(argv[2], NULL, 10) * 1000000ull;
    plan.processes = strtoull(argv[3], NULL, 10);
    plan.open_files = strtoull(argv[4], NULL, 10);
    plan.file_bytes = strtoull(argv[5], NULL, 10);
    plan.data_bytes = strtoull(argv[6], NULL, 10);
    int count = atoi(argv[7]);
    if (count > 255 || argc < 9 + count)
        return REFUSED;
    memcpy(environment, argv + 8, (size_t)count * sizeof *environment);
    environment[count] = NULL;
    plan.environment = environment;
    plan.command = argv + 8 + count;

    sigset_t all, waiting;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    waiting = all;
    sigdelset(&waiting, SIGCHLD);
    signal(SIGCHLD, on_child);

    /* The parent of a vfork goes on only after exec or its failure: no pipe is needed to know. */
    pid_t script = vfork();
    if (script == 0)
        become_script(&plan, &failed);
    if (script < 0 || failed) {
        report.kind = SAY_NOT_STARTED;
        report.error = script < 0 ? errno : failed;
        say(&report);
        return REFUSED;
    }
    uint64_t started = now(), deadline = started + plan.timeout_ns, kill_at = 0, ended = 0;
    report.kind = SAY_STARTED;
    say(&report);

    for (;;) {
        int status;
        pid_t gone;
        while ((gone = waitpid(-1, &status, WNOHANG)) > 0)
            if (gone == script) {
                report.status = status;
                ended = now();
            }
        if (ended)
            break;
        uint64_t at = now(), next = kill_at ? kill_at : deadline;
        if (at >= next) {
            if (!kill_at) {
                report.cause = CAUSE_DEADLINE;
                term_all();
                kill_at = at + DEADLINE_GRACE;
            } else {
                kill(-1, SIGKILL);
                kill_at = at + SECOND / 10;
            }
            continue;
        }
        struct timespec wait = {(time_t)((next - at) / SECOND), (long)((next - at) % SECOND)};
        struct pollfd control = {CONTROL, POLLIN, 0};
        if (ppoll(&control, 1, &wait, &waiting) <= 0 || !control.revents)
            continue;
        struct order order = {CAUSE_CANCEL, 0};
        ssize_t got = recv(CONTROL, &order, sizeof order, MSG_DONTWAIT);
        if (got < 0)
            continue;
        if (got == 0) /* whoever would read the report is gone */
            break;
        if (report.cause == CAUSE_NONE)
            report.cause = order.cause;
        uint64_t limit_at = now() + (uint64_t)order.grace_ms * 1000000ull;
        if (order.grace_ms)
            term_all();
        if (!kill_at || limit_at < kill_at)
            kill_at = limit_at;
    }

    for (;;) {
        int status;
        kill(-1, SIGKILL);
        pid_t gone = waitpid(-1, &status, 0);
        if (gone == script && !ended) {
            report.status = status;
            ended = now();
        }
        if (gone < 0 && errno == ECHILD)
            break;
    }
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    report.kind = SAY_ENDED;
    report.wall_ns = (ended ? ended : now()) - started;
    report.cpu_us = (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000000ull +
                    (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec);
    report.maxrss_kb = (uint64_t)used.ru_maxrss;
    say(&report);
    return 0;
}

/* ------------------------------------------------------------------ probe */

static void probe(void)
{
    char text[8192];

    tell_rights(text, sizeof text);
    tell("uid", getuid() == 1000 && geteuid() == 1000 && getgid() == 1000 && getegid() == 1000,
         "must be 1000");
    /* Inner uid, outer uid, how many: "      1000      70000          1". */
    int end = slurp("/proc/self/uid_map", text, sizeof text);
    const char *inner = text;
    while (*inner == ' ')
        inner++;
    tell("uid_map",
         lines(text) == 1 && strncmp(inner, "1000 ", 5) == 0 && end > 3 &&
             strcmp(text + end - 3, " 1\n") == 0,
         "must be one single uid");
    slurp("/proc/net/dev", text, sizeof text);
    tell("network", lines(text) == 3 && strstr(text, " lo:"), "must have lo alone");
    slurp("/proc/net/route", text, sizeof text);
    tell("routes", lines(text) <= 1, "must have none");
    tell_refused("shadow", open("/etc/shadow", O_RDONLY), 0, 0);
    int open_ones = 0;
    for (int fd = 3; fd < 1024; fd++)
        open_ones += fcntl(fd, F_GETFD) >= 0;
    tell("descriptors", open_ones == 0, "must be 0, 1 and 2 alone");
    tell_refused("user_namespace", syscall(SYS_unshare, CLONE_NEWUSER), EPERM, ENOSPC);
    tell_refused("keys", syscall(SYS_keyctl, 0, -3, 0, 0, 0), EPERM, ENOSYS);
    tell_refused("root_writable", mkdir("/probe", 0700), EROFS, EACCES);
    tell_refused("dev_writable", mkdir("/dev/probe", 0700), EROFS, EACCES);
    tell_refused("proc_writable", open("/proc/sys/kernel/shmmax", O_WRONLY), EROFS, EACCES);
    tell_refused("init_closed", open("/proc/1/environ", O_RDONLY), EACCES, EPERM);
    tell("process_1", getppid() == 1, "parent must be process 1");
    tell("scratch", mkdir("/tmp/probe", 0700) == 0, "must be writable");
    struct rlimit core;
    tell("core", getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_max == 1, "must be 1");
    tell("done", 1, "");
    for (;;)
        pause(); /* being killed from outside is part of what is probed */
}

int main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "enter") == 0)
        return enter(argc, argv);
    if (argc > 1 && strcmp(argv[1], "init") == 0)
        return init(argc, argv);
    if (argc > 1 && strcmp(argv[1], "probe") == 0)
        probe();
    return REFUSED;
}

/*
 * Process 1 of an executor's container, in one static binary.
 *
 *   do JOB        starts the script that JOB describes, passes on what it prints, keeps its clock,
 *                 ends everything, reports the raw facts.
 *   probe WHAT... runs as "the script" of a canary and prints one line per check.
 *
 * It shares its uid with the script. What keeps them apart: it is not dumpable, so that neither
 * its memory nor its descriptors can be opened; it is process 1, so that no signal of the script
 * can end it; and it writes its report when everybody else is dead.
 *
 * Its standard output is the container's log and carries one frame per line:
 *
 *   s NANOSECONDS        the script was started, by the node's wall clock
 *   o OFFSET BASE64      bytes of standard output; O where the kept size is reached and more came
 *   e OFFSET BASE64      the same of standard error; E likewise
 *   u CPU_NS PEAK_KB     what was used so far; also the sign of life of a silent script
 *   r REPORT             the last line
 *
 * The report lies in the termination log as well. It begins with a mark that only the pod's
 * object and this process know: whatever else is found there was written by the script.
 */
#include "process.h"

#include <poll.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { SCRIPT_OUT, SCRIPT_ERR, STREAMS };
enum { READ_BYTES = 64 * 1024, CHUNK_BYTES = 16 * 1024, CHUNKS_A_SECOND = 10 };
enum { LONGEST_JOB = 1280 * 1024, MOST_WORDS = 64 * 1024, LONGEST_FILTER = 32 * 1024 };
enum { MARK_BYTES = 64 };

/* Whether the kernel may count by uid. */
enum { UID_LOOK, UID_OWN, UID_SHARED };

/* The first one that is noted stays: it is what explains the kill that follows. */
enum cause { NONE, DEADLINE, CANCEL, FLOOD, MEMORY, PROCESSES, ASKED, REMOVE };
static const char *const CAUSES[] = {
    "none", "deadline", "cancel", "flood", "memory", "processes", "asked", "remove",
};

static const uint64_t MILLISECOND = 1000000ull;
static const uint64_t FIRST_WAIT = 1000000ull;     /* makes a line and its end one chunk, not two */
static const uint64_t GATHER_WAIT = 100000000ull;
static const uint64_t LOOK_EVERY = 50000000ull;    /* at counters and orders */
static const uint64_t BEAT_EVERY = 5000000000ull;
static const uint64_t DEADLINE_GRACE = 2000000000ull;
static const uint64_t ASKED_GRACE = 1000000000ull; /* a second less than the kubelet gives us */
static const uint64_t LAST_WORDS = 10000000000ull;
static const uint64_t UNKNOWN = ~0ull;

struct plan {
    uint64_t timeout, processes, uid, open_files, file_bytes, kept_bytes, drained_bytes;
    const char *report_path, *order_path, *stdin_path, *filter_path, *groups, *folder;
    char **environment, **command;
    int counts_by_rlimit;
    int filter_length;
};

struct stream {
    int fd;
    char *kept;
    uint64_t kept_length, total, said;
    uint64_t since; /* when the oldest byte arrived that was not said yet */
    int cut_said;
};

static struct plan plan;
static struct stream streams[STREAMS];
static char mark[MARK_BYTES + 1];

static char job[LONGEST_JOB];
static char *words[MOST_WORDS];
static char filter[LONGEST_FILTER];
static char scratch[READ_BYTES];

/* ------------------------------------------------------------- small texts */

struct text {
    char *at, *end;
};

static void add(struct text *text, const char *part)
{
    for (; *part && text->at < text->end; part++)
        *text->at++ = *part;
}

static void add_number(struct text *text, uint64_t value)
{
    char digits[21];
    int at = sizeof digits;
    digits[--at] = 0;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    add(text, digits + at);
}

static void add_field(struct text *text, const char *name, uint64_t value)
{
    add(text, name);
    if (value == UNKNOWN)
        add(text, "-");
    else
        add_number(text, value);
}

static void add_base64(struct text *text, const char *data, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const unsigned char *from = (const unsigned char *)data;
    for (size_t i = 0; i < length && text->end - text->at >= 4; i += 3) {
        size_t rest = length - i;
        unsigned bits = (unsigned)from[i] << 16 | (rest > 1 ? (unsigned)from[i + 1] << 8 : 0) |
                        (rest > 2 ? from[i + 2] : 0);
        *text->at++ = digits[bits >> 18];
        *text->at++ = digits[bits >> 12 & 63];
        *text->at++ = rest > 1 ? digits[bits >> 6 & 63] : '=';
        *text->at++ = rest > 2 ? digits[bits & 63] : '=';
    }
}

static uint64_t number_after(const char *text, const char *name)
{
    const char *at = text ? strstr(text, name) : NULL;
    if (!at)
        return UNKNOWN;
    at += strlen(name);
    while (*at == ' ')
        at++;
    return *at >= '0' && *at <= '9' ? strtoull(at, NULL, 10) : UNKNOWN;
}

/* ---------------------------------------------------------------- counters */

/*
 * The container's own control group, whichever version there is. A file that is missing or not
 * understood is unknown, never zero.
 */
struct counters {
    uint64_t cpu_ns, peak_kb, memory_kills, refused_forks, tasks;
};

static const char *read_group(const char *name, char *text, size_t room)
{
    char path[512];
    struct text whole = {path, path + sizeof path - 1};
    add(&whole, plan.groups);
    add(&whole, name);
    *whole.at = 0;
    return slurp(path, text, room) < 0 ? NULL : text;
}

static uint64_t group_number(const char *name, const char *field)
{
    char text[4096];
    return number_after(read_group(name, text, sizeof text), field);
}

static uint64_t either(uint64_t first, uint64_t second)
{
    return first != UNKNOWN ? first : second;
}

static uint64_t memory_kills(void)
{
    return either(group_number("/memory.events", "oom_kill"),
                  group_number("/memory/memory.oom_control", "oom_kill "));
}

static uint64_t tasks(void)
{
    return either(group_number("/pids.current", ""), group_number("/pids/pids.current", ""));
}

static uint64_t cpu_ns(void)
{
    uint64_t microseconds = group_number("/cpu.stat", "usage_usec");
    if (microseconds != UNKNOWN)
        return microseconds * 1000;
    return either(group_number("/cpuacct/cpuacct.usage", ""),
                  group_number("/cpu,cpuacct/cpuacct.usage", ""));
}

static uint64_t peak_kb(void)
{
    uint64_t bytes = either(group_number("/memory.peak", ""),
                            group_number("/memory/memory.max_usage_in_bytes", ""));
    return bytes == UNKNOWN ? UNKNOWN : bytes / 1024;
}

static struct counters count(void)
{
    struct counters seen = {
        .cpu_ns = cpu_ns(),
        .peak_kb = peak_kb(),
        .memory_kills = memory_kills(),
        .refused_forks = either(group_number("/pids.events", "max"),
                                group_number("/pids/pids.events", "max")),
        .tasks = tasks(),
    };
    return seen;
}

/* ----------------------------------------------------------------- the log */

/* One frame at a time: the next one is made when the last has left, so that nothing is queued. */
static char frame[CHUNK_BYTES / 3 * 4 + 1024];
static size_t frame_length, frame_sent;
static uint64_t chunk_times[CHUNKS_A_SECOND]; /* of the last ten, the oldest first */
static uint64_t chunks;

static int is_sent(void)
{
    return frame_sent == frame_length;
}

static void send_on(void)
{
    while (!is_sent()) {
        ssize_t n = write(1, frame + frame_sent, frame_length - frame_sent);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN)
            frame_sent = frame_length; /* nobody reads the log any more */
        if (n < 0)
            return;
        frame_sent += (size_t)n;
    }
}

static void send_text(struct text *text)
{
    *text->at++ = '\n';
    frame_length = (size_t)(text->at - frame);
    frame_sent = 0;
    send_on();
}

static struct text new_frame(void)
{
    struct text text = {frame, frame + sizeof frame - 1};
    return text;
}

static int is_cut(const struct stream *one)
{
    return one->total > one->kept_length;
}

static int has_news(const struct stream *one)
{
    return one->said < one->kept_length || (is_cut(one) && !one->cut_said);
}

/* How many chunks it takes to say what is left; a cut that is noticed late takes an empty one. */
static uint64_t chunks_left(const struct stream *one)
{
    if (!has_news(one))
        return 0;
    uint64_t left = (one->kept_length - one->said + CHUNK_BYTES - 1) / CHUNK_BYTES;
    return left ? left : 1;
}

static void say_chunk(struct stream *one, uint64_t at)
{
    uint64_t left = one->kept_length - one->said;
    size_t length = left < CHUNK_BYTES ? (size_t)left : CHUNK_BYTES;
    int reaches_cut = is_cut(one) && one->said + length == one->kept_length;
    struct text text = new_frame();
    int is_out = one == &streams[SCRIPT_OUT];
    add(&text, is_out ? (reaches_cut ? "O " : "o ") : (reaches_cut ? "E " : "e "));
    add_number(&text, one->said);
    add(&text, " ");
    add_base64(&text, one->kept + one->said, length);
    one->said += length;
    one->cut_said |= reaches_cut;
    one->since = has_news(one) ? at : 0;
    for (int i = 1; i < CHUNKS_A_SECOND; i++)
        chunk_times[i - 1] = chunk_times[i];
    chunk_times[CHUNKS_A_SECOND - 1] = at;
    chunks++;
    send_text(&text);
}

/* From when on a stream has something to say; UNKNOWN while nothing waits. */
static uint64_t due(const struct stream *one)
{
    if (!one->since)
        return UNKNOWN;
    if (one->kept_length - one->said >= CHUNK_BYTES)
        return one->since;
    return one->since + (one->said ? GATHER_WAIT : FIRST_WAIT);
}

static uint64_t next_chunk_at(void)
{
    uint64_t out = due(&streams[SCRIPT_OUT]), err = due(&streams[SCRIPT_ERR]);
    uint64_t first = out < err ? out : err;
    if (first == UNKNOWN)
        return UNKNOWN;
    uint64_t allowed = chunk_times[0] ? chunk_times[0] + SECOND : 0;
    return first > allowed ? first : allowed;
}

static void say_what_is_due(uint64_t at)
{
    while (is_sent() && next_chunk_at() <= at) {
        struct stream *out = &streams[SCRIPT_OUT], *err = &streams[SCRIPT_ERR];
        int out_first = due(out) <= at && (due(err) > at || out->since <= err->since);
        say_chunk(out_first ? out : err, at);
    }
}

/* Wait for the log's reader; it may be slow, but it does not keep us for ever. */
static void send_all(uint64_t until)
{
    for (uint64_t at; !is_sent() && (at = now()) < until;) {
        struct pollfd log = {1, POLLOUT, 0};
        struct timespec wait = {0, (long)LOOK_EVERY};
        ppoll(&log, 1, &wait, NULL);
        send_on();
    }
}

static void say_the_rest(uint64_t until)
{
    send_all(until);
    for (int i = 0; i < STREAMS; i++)
        while (is_sent() && has_news(&streams[i])) {
            say_chunk(&streams[i], now());
            send_all(until);
        }
}

static uint64_t wall_clock(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void say_started(uint64_t at)
{
    struct text text = new_frame();
    add_field(&text, "s ", at);
    send_text(&text);
}

static void say_used(void)
{
    struct text text = new_frame();
    add_field(&text, "u ", cpu_ns());
    add_field(&text, " ", peak_kb());
    send_text(&text);
}

/* ------------------------------------------------------------------ output */

static void take(struct stream *one, const char *data, size_t length, uint64_t at)
{
    uint64_t room = plan.kept_bytes - one->kept_length;
    size_t kept = length < room ? length : (size_t)room;
    memcpy(one->kept + one->kept_length, data, kept);
    one->kept_length += kept;
    one->total += length;
    if (!one->since && has_news(one))
        one->since = at;
}

/* Returns whether there may be more. */
static int read_stream(struct stream *one)
{
    if (one->fd < 0)
        return 0;
    ssize_t n = read(one->fd, scratch, sizeof scratch);
    if (n > 0) {
        take(one, scratch, (size_t)n, now());
        return 1;
    }
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    close(one->fd);
    one->fd = -1;
    return 0;
}

/* All who could write are dead: what the pipes hold is the last of it, at most a pipe each. */
static void drain(void)
{
    for (int i = 0; i < STREAMS; i++)
        for (int reads = 0; reads < 64 && read_stream(&streams[i]); reads++)
            ;
}

/* ------------------------------------------------------------------ orders */

struct order {
    enum cause cause;
    uint64_t grace;
};

/* "cancel 2000" or "remove 30000", the grace in milliseconds; anything else is no order. */
static struct order read_order(void)
{
    char text[64];
    struct order order = {NONE, 0};
    if (slurp(plan.order_path, text, sizeof text) <= 0)
        return order;
    if (strncmp(text, "cancel ", 7) == 0)
        order.cause = CANCEL;
    else if (strncmp(text, "remove ", 7) == 0)
        order.cause = REMOVE;
    if (order.cause != NONE)
        order.grace = strtoull(text + 7, NULL, 10) * MILLISECOND;
    return order;
}

/*
 * TERM from outside: its sender has no number in here. A script that sends one has, and what it
 * sends by other calls does not say that it came from kill().
 */
static int is_asked(int signals)
{
    struct signalfd_siginfo seen;
    int asked = 0;
    while (read(signals, &seen, sizeof seen) == (ssize_t)sizeof seen)
        asked |= seen.ssi_signo == SIGTERM && seen.ssi_code == SI_USER && seen.ssi_pid == 0;
    return asked;
}

/* --------------------------------------------------------------- beginning */

static int refuse_job(const char *what)
{
    struct text text = new_frame();
    add(&text, "integr8s: the job ");
    add(&text, what);
    send_text(&text);
    return REFUSED;
}

static int read_words(const char *path)
{
    int length = slurp(path, job, sizeof job), found = 0;
    for (int at = 0; at < length && found < MOST_WORDS - 1;) {
        words[found++] = job + at;
        at += (int)strlen(job + at) + 1;
    }
    words[found] = NULL;
    return found;
}

/* The words and their order are those of job.py. */
static int read_plan(const char *path)
{
    int found = read_words(path);
    if (found < 17 || strcmp(words[0], "integr8s-job-1") != 0)
        return -1;
    plan.timeout = strtoull(words[1], NULL, 10) * MILLISECOND;
    plan.processes = strtoull(words[2], NULL, 10);
    plan.uid = strtoull(words[3], NULL, 10);
    plan.open_files = strtoull(words[4], NULL, 10);
    plan.file_bytes = strtoull(words[5], NULL, 10);
    plan.kept_bytes = strtoull(words[6], NULL, 10);
    plan.drained_bytes = strtoull(words[7], NULL, 10);
    plan.report_path = words[8];
    plan.order_path = words[9];
    plan.stdin_path = words[10];
    plan.filter_path = words[11];
    plan.groups = words[12];
    plan.folder = words[13];
    int count = atoi(words[14]);
    if (count < 0 || found < 17 + count)
        return -1;
    /* The word between environment and command is there to be the end of the first. */
    words[15 + count] = NULL;
    plan.environment = words + 15;
    plan.command = words + 16 + count;
    return plan.command[0] ? 0 : -1;
}

/*
 * A limit by uid counts all pods of a node, unless the uid or the user namespace is ours alone:
 * one script could then keep another from forking. Where it is not, tasks are counted in the group.
 */
static int may_limit_by_uid(void)
{
    char text[256];
    if (plan.uid != UID_LOOK)
        return plan.uid == UID_OWN;
    return slurp("/proc/self/uid_map", text, sizeof text) > 0 && !strstr(text, " 4294967295\n");
}

static int open_pipe(struct stream *one)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    one->fd = ends[0];
    if (plan.kept_bytes) {
        void *room = mmap(NULL, plan.kept_bytes, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (room == MAP_FAILED)
            return -1;
        one->kept = room;
    }
    return ends[1];
}

static const char *search_path(void)
{
    for (char **one = plan.environment; *one; one++)
        if (strncmp(*one, "PATH=", 5) == 0)
            return *one + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* Replaces the process, or returns why it could not. */
static int run_command(void)
{
    char path[4096];
    const char *name = plan.command[0], *from = search_path();
    int worst = ENOENT;
    if (strstr(name, "/")) {
        execve(name, plan.command, plan.environment);
        return errno;
    }
    while (*from) {
        struct text whole = {path, path + sizeof path - 1};
        while (*from && *from != ':' && whole.at < whole.end)
            *whole.at++ = *from++;
        while (*from && *from++ != ':')
            ;
        add(&whole, "/");
        add(&whole, name);
        *whole.at = 0;
        execve(path, plan.command, plan.environment);
        if (errno != ENOENT && errno != ENOTDIR)
            worst = errno;
    }
    return worst;
}

static int put_under_filter(void)
{
    struct {
        unsigned short length;
        const void *steps;
    } program = {(unsigned short)(plan.filter_length / 8), filter};
    if (!plan.filter_length)
        return 0;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    return prctl(PR_SET_SECCOMP, 2 /* SECCOMP_MODE_FILTER */, &program, 0, 0);
}

static void become_script(const int *ends, volatile int *failed)
{
    sigset_t none;
    int input = open(*plan.stdin_path ? plan.stdin_path : "/dev/null", O_RDONLY);
    if (input < 0 || dup2(input, 0) < 0 || dup2(ends[0], 1) < 0 || dup2(ends[1], 2) < 0) {
        *failed = errno;
        _exit(127);
    }
    close_from(3);
    setsid();
    umask(022);
    if (chdir(plan.folder) != 0) {
        *failed = errno;
        _exit(127);
    }
    /* Ourselves, and the process that holds the pod's namespaces, have the same uid. */
    if (plan.counts_by_rlimit)
        limit(RLIMIT_NPROC, plan.processes + 2);
    limit_script(plan.open_files, plan.file_bytes);
    for (int sig = 1; sig < NSIG; sig++)
        signal(sig, SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    *failed = put_under_filter() != 0 ? errno : run_command();
    _exit(127);
}

/* ------------------------------------------------------------------ ending */

struct run {
    pid_t script;
    int has_started, failed, status;
    enum cause cause;
    uint64_t started, ended, kill_at, kills_before, tasks_seen;
    uint64_t started_at; /* by the node's wall clock */
    int signals;
};

static void reap(struct run *run)
{
    int status;
    pid_t gone;
    while ((gone = waitpid(-1, &status, WNOHANG)) > 0)
        if (gone == run->script) {
            run->status = status;
            run->ended = now();
        }
}

static void end_with(struct run *run, enum cause cause, uint64_t at, uint64_t grace)
{
    if (run->cause == NONE)
        run->cause = cause;
    if (grace)
        term_all();
    if (!run->kill_at || at + grace < run->kill_at)
        run->kill_at = at + grace;
}

static void obey_term(struct run *run, uint64_t at)
{
    if (!is_asked(run->signals) || run->cause != NONE)
        return;
    term_all();
    run->cause = ASKED;
    run->kill_at = at + ASKED_GRACE;
}

/* Whoever has us ended by the kubelet may say why, and how long that may take, a little later. */
static void obey_order(struct run *run, uint64_t at)
{
    struct order order = read_order();
    if (order.cause == NONE || (run->cause != NONE && run->cause != ASKED))
        return;
    if (run->cause == NONE && order.grace)
        term_all();
    run->cause = order.cause;
    run->kill_at = at + order.grace;
}

static void look_at_counters(struct run *run, uint64_t at)
{
    uint64_t kills = memory_kills();
    if (kills != UNKNOWN && kills > run->kills_before)
        end_with(run, MEMORY, at, 0);
    if (plan.counts_by_rlimit)
        return;
    uint64_t seen = tasks();
    if (seen == UNKNOWN || seen <= plan.processes + 1)
        return;
    run->tasks_seen = seen - 1;
    end_with(run, PROCESSES, at, 0);
}

static void keep_bounds(struct run *run, uint64_t at)
{
    if (run->cause == NONE && at >= run->started + plan.timeout)
        end_with(run, DEADLINE, at, DEADLINE_GRACE);
    if (streams[SCRIPT_OUT].total + streams[SCRIPT_ERR].total > plan.drained_bytes)
        end_with(run, FLOOD, at, 0);
    if (run->kill_at && at >= run->kill_at) {
        kill(-1, SIGKILL);
        run->kill_at = at + SECOND / 10;
    }
}

static void wait_for_news(const struct run *run, uint64_t at, uint64_t look_at)
{
    struct pollfd fds[2 + STREAMS] = {{run->signals, POLLIN, 0}};
    nfds_t count = 1;
    uint64_t next = look_at;
    for (int i = 0; i < STREAMS; i++)
        if (streams[i].fd >= 0)
            fds[count++] = (struct pollfd){streams[i].fd, POLLIN, 0};
    if (!is_sent())
        fds[count++] = (struct pollfd){1, POLLOUT, 0};
    else if (next_chunk_at() < next)
        next = next_chunk_at();
    if (run->kill_at && run->kill_at < next)
        next = run->kill_at;
    if (run->cause == NONE && run->started + plan.timeout < next)
        next = run->started + plan.timeout;
    uint64_t left = next > at ? next - at : 0;
    struct timespec wait = {(time_t)(left / SECOND), (long)(left % SECOND)};
    ppoll(fds, count, &wait, NULL);
}

static void follow(struct run *run)
{
    uint64_t look_at = 0, beat_at = run->started + BEAT_EVERY;
    for (;;) {
        for (int i = 0; i < STREAMS; i++)
            read_stream(&streams[i]);
        reap(run);
        if (run->ended)
            return;
        uint64_t at = now();
        obey_term(run, at);
        if (at >= look_at) {
            obey_order(run, at);
            look_at_counters(run, at);
            look_at = at + LOOK_EVERY;
        }
        keep_bounds(run, at);
        send_on();
        say_what_is_due(at);
        if (at >= beat_at && is_sent()) {
            say_used();
            beat_at = at + BEAT_EVERY;
        }
        wait_for_news(run, at, look_at);
    }
}

static void end_everybody(struct run *run)
{
    for (;;) {
        int status;
        kill(-1, SIGKILL);
        pid_t gone = waitpid(-1, &status, 0);
        if (gone == run->script && !run->ended) {
            run->status = status;
            run->ended = now();
        }
        if (gone < 0 && errno == ECHILD)
            return;
    }
}

static void write_report(const struct text *report, const char *begin)
{
    int fd = open(plan.report_path, O_WRONLY | O_TRUNC | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    for (const char *at = begin; at < report->at;) {
        ssize_t n = write(fd, at, (size_t)(report->at - at));
        if (n < 0)
            break;
        at += n;
    }
    close(fd);
}

static void add_usage(struct text *text, const struct run *run)
{
    struct counters seen = count();
    struct rusage used;
    getrusage(RUSAGE_CHILDREN, &used);
    int has_group = seen.cpu_ns != UNKNOWN;
    uint64_t waited = ((uint64_t)used.ru_utime.tv_sec + (uint64_t)used.ru_stime.tv_sec) * SECOND +
                      ((uint64_t)used.ru_utime.tv_usec + (uint64_t)used.ru_stime.tv_usec) * 1000;
    add(text, has_group ? " source=cgroup" : " source=wait4");
    add_field(text, " cpu_ns=", has_group ? seen.cpu_ns : waited);
    add_field(text, " peak_kb=",
              seen.peak_kb != UNKNOWN || has_group ? seen.peak_kb : (uint64_t)used.ru_maxrss);
    add_field(text, " memory_kills=",
              seen.memory_kills == UNKNOWN ? UNKNOWN : seen.memory_kills - run->kills_before);
    add_field(text, " refused_forks=", seen.refused_forks);
}

static void add_output(struct text *text)
{
    static const char *const names[STREAMS][2] = {
        {" stdout_total=", " stdout_kept="},
        {" stderr_total=", " stderr_kept="},
    };
    uint64_t left = chunks;
    for (int i = 0; i < STREAMS; i++) {
        add_field(text, names[i][0], streams[i].total);
        add_field(text, names[i][1], streams[i].kept_length);
        left += chunks_left(&streams[i]);
    }
    add_field(text, " chunks=", left);
}

/* Everybody else is dead: whatever stands where the report goes is over, and stays so. */
static int report(const struct run *run)
{
    static char line[2048];
    struct text text = {line, line + sizeof line - 1};
    add(&text, mark);
    add(&text, " cause=");
    add(&text, CAUSES[run->cause]);
    add_field(&text, " started=", (uint64_t)run->has_started);
    add_field(&text, " error=", (uint64_t)run->failed);
    add_field(&text, " status=", (uint64_t)(unsigned)run->status);
    add_field(&text, " started_at_ns=", run->started_at);
    add_field(&text, " wall_ns=", run->has_started ? run->ended - run->started : 0);
    add_usage(&text, run);
    add_field(&text, " tasks=", run->tasks_seen);
    add_output(&text);
    add(&text, " end");
    write_report(&text, line);

    uint64_t until = now() + LAST_WORDS;
    say_the_rest(until);
    if (is_sent()) {
        *text.at = 0;
        struct text last = new_frame();
        add(&last, "r ");
        add(&last, line);
        send_text(&last);
        send_all(until);
    }
    return 0;
}

/* -------------------------------------------------------------------- do */

static void take_mark(char **environment)
{
    for (; *environment; environment++)
        if (strncmp(*environment, "INTEGR8S_MARK=", 14) == 0) {
            struct text text = {mark, mark + MARK_BYTES};
            add(&text, *environment + 14);
        }
}

static int open_signals(void)
{
    sigset_t all, wanted;
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL);
    sigemptyset(&wanted);
    sigaddset(&wanted, SIGTERM);
    sigaddset(&wanted, SIGCHLD);
    return signalfd(-1, &wanted, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* A cancel that came before us: the script is not even started. */
static int is_unwanted(struct run *run)
{
    struct order order = read_order();
    if (order.cause == NONE && is_asked(run->signals))
        order.cause = ASKED;
    run->cause = order.cause;
    return order.cause != NONE;
}

static int do_job(const char *path, char **environment)
{
    struct run run = {0};
    volatile int failed = 0;

    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    take_mark(environment);
    close_from(3);
    run.signals = open_signals();
    /* Of all descriptors this one alone is shared with others, and those only read. */
    fcntl(1, F_SETFL, O_NONBLOCK);
    if (read_plan(path) != 0)
        return refuse_job("cannot be read");
    if (*plan.filter_path && (plan.filter_length = slurp(plan.filter_path, filter, LONGEST_FILTER)) <= 0)
        return refuse_job("lacks its filter");
    streams[SCRIPT_OUT].fd = streams[SCRIPT_ERR].fd = -1;
    run.kills_before = memory_kills();
    if (is_unwanted(&run))
        return report(&run);
    int ends[STREAMS];
    for (int i = 0; i < STREAMS; i++)
        if ((ends[i] = open_pipe(&streams[i])) < 0)
            return refuse_job("finds no pipe");
    plan.counts_by_rlimit = may_limit_by_uid();

    /* The parent of a vfork goes on only after exec or its failure: no pipe is needed to know. */
    run.started_at = wall_clock();
    run.script = vfork();
    if (run.script == 0)
        become_script(ends, &failed);
    run.started = now();
    run.failed = run.script < 0 ? errno : failed;
    run.has_started = !run.failed;
    for (int i = 0; i < STREAMS; i++)
        close(ends[i]);
    if (run.has_started) {
        say_started(run.started_at);
        follow(&run);
    }
    end_everybody(&run);
    drain();
    return report(&run);
}

/* ------------------------------------------------------------------- probe */

static int hex_digit(char digit)
{
    return digit <= '9' ? digit - '0' : digit - 'a' + 10;
}

/* An address as the kernel takes it, written in hexadecimal digits. */
static unsigned decode(const char *digits, unsigned char *to, unsigned room)
{
    unsigned n = 0;
    for (; digits[0] && digits[1] && n < room; digits += 2)
        to[n++] = (unsigned char)(hex_digit(digits[0]) << 4 | hex_digit(digits[1]));
    return n;
}

/* A question that every name server answers, if only by refusing it. */
static const char QUESTION[] = "\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00"
                               "\x0akubernetes\x07" "default\x03svc\x00\x00\x01\x00\x01";

static int reaches(const char *target, const char **why)
{
    unsigned char address[128], answer[64];
    int is_tcp = target[0] == 't';
    unsigned length = decode(target + 2, address, sizeof address);
    int family = address[0] | address[1] << 8;
    int fd = socket(family, (is_tcp ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int sent = fd < 0 ? -1 : connect(fd, (struct sockaddr *)address, length);
    if (!is_tcp && sent == 0)
        sent = write(fd, QUESTION, sizeof QUESTION - 1) < 0 ? -1 : 0;
    *why = strerror(errno);
    if (sent < 0 && errno != EINPROGRESS)
        return 0;
    struct pollfd one = {fd, is_tcp ? POLLOUT : POLLIN, 0};
    struct timespec wait = {1, 0};
    *why = "no answer";
    if (ppoll(&one, 1, &wait, NULL) <= 0)
        return 0;
    /* A refusal may come from whatever keeps us in, so only a connection counts. */
    int good = is_tcp ? connect(fd, (struct sockaddr *)address, length) == 0 || errno == EISCONN
                      : read(fd, answer, sizeof answer) > 0;
    *why = good ? "reached" : strerror(errno);
    close(fd);
    return good;
}

static void probe_processes(int most)
{
    char digits[21];
    struct text text = {digits, digits + sizeof digits - 1};
    int made = 0;
    for (; made < most; made++) {
        pid_t child = fork();
        if (child == 0)
            for (;;)
                pause();
        if (child < 0)
            break;
    }
    add_number(&text, (uint64_t)made);
    *text.at = 0;
    tell("processes", made < most, digits);
}

static void probe_view(void)
{
    char text[8192];
    tell_rights(text, sizeof text);
    slurp("/proc/self/uid_map", text, sizeof text);
    tell("user_namespace", !strstr(text, " 4294967295\n"), "its own");
    tell_refused("root_writable", mkdir("/probe", 0700), EROFS, EACCES);
    tell_refused("init_closed", open("/proc/1/environ", O_RDONLY), EACCES, EPERM);
    tell_refused("token", open("/var/run/secrets/kubernetes.io/serviceaccount/token", O_RDONLY), 0, 0);
    tell_refused("namespaces", syscall(SYS_unshare, 0x10000000), EPERM, ENOSPC);
    tell("scratch", mkdir("/tmp/probe", 0700) == 0, "must be writable");
}

/* probe MOST_PROCESSES [NAME ADDRESS]...: what is named is tried at once, and told as it turns out. */
static int probe(int argc, char **argv)
{
    probe_view();
    for (int i = 3; i + 1 < argc; i += 2) {
        const char *why = "";
        if (fork() == 0) {
            int good = reaches(argv[i + 1], &why);
            char line[256];
            int n = snprintf(line, sizeof line, "%s %s %s\n", good ? "reached" : "shut", argv[i], why);
            _exit(write(1, line, (size_t)n) < 0);
        }
    }
    while (waitpid(-1, NULL, 0) > 0)
        ;
    tell("done", 1, "");
    probe_processes(atoi(argv[2])); /* the last: to be ended for it is an answer, too */
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "do") == 0)
        return do_job(argv[2], argv + argc + 1);
    if (argc > 2 && strcmp(argv[1], "probe") == 0)
        return probe(argc, argv);
    return REFUSED;
}

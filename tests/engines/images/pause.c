/* The first process of every pod: it holds the pod's namespaces and buries orphans.
 *
 * It does nothing else, so it is linked statically and is the only file of its image. */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void leave(int signal) {
    (void)signal;
    _exit(0);
}

static void bury(int signal) {
    (void)signal;
    /* One signal may stand for several dead children. */
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    /* As process 1 of its namespace it gets no default reaction to any signal. */
    struct sigaction action = {.sa_handler = leave};
    if (sigaction(SIGTERM, &action, NULL) < 0 || sigaction(SIGINT, &action, NULL) < 0) {
        return EXIT_FAILURE;
    }
    action.sa_handler = bury;
    action.sa_flags = SA_NOCLDSTOP;
    if (sigaction(SIGCHLD, &action, NULL) < 0) {
        return EXIT_FAILURE;
    }
    for (;;) {
        pause();
    }
}

/* processes.c - fork, exec, and seeing that none is left behind. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "processes.h"

static pid_t *pids;
static int pid_count;

static void run_client(const cw_config *config, const char *endpoint, pid_t parent)
{
    char threads[32], loaders[32], timeout[32], join_timeout[32];
    cw_config_get(config, "threads", threads, sizeof threads, NULL);
    cw_config_get(config, "loader-threads", loaders, sizeof loaders, NULL);
    cw_config_get(config, "timeout", timeout, sizeof timeout, NULL);
    cw_config_get(config, "join-timeout", join_timeout, sizeof join_timeout, NULL);
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(CLI_FAILURE); /* it died before it could be watched */
    const char *colon = strchr(cw_config_string(config, "data"), ':'), *dir = cw_config_string(config, "data-dir");
    if (!*dir && colon)
        dir = colon + 1;
    /* clang-format off */
    char *argv[] = {"cutwire", "client", "--connect", (char *)(uintptr_t)endpoint, "--threads", threads,
                    "--loader-threads", loaders, "--timeout", timeout, "--join-timeout", join_timeout, "--reconnect",
                    "0", "--quiet", NULL, NULL, NULL, NULL};
    /* clang-format on */
    size_t count = 15;
    if (cw_config_integer(config, "own-data"))
        argv[count++] = "--own-data";
    if (*dir) {
        argv[count++] = "--data-dir";
        argv[count++] = (char *)(uintptr_t)dir;
    }
    execv("/proc/self/exe", argv);
    _exit(CLI_FAILURE);
}

bool processes_start(const cw_config *config, const char *endpoint)
{
    pid_t parent = getpid();
    const int clients = (int)cw_config_integer(config, "clients");
    pids = calloc((size_t)clients, sizeof *pids);
    for (int i = 0; pids && i < clients; i++) {
        fflush(NULL);
        pid_t pid = fork();
        if (pid == 0)
            run_client(config, endpoint, parent);
        if (pid < 0) {
            cli_fail(CLI_FAILURE, "train: cannot start client process %d: %s", i + 1, strerror(errno));
            processes_wait(0);
            return false;
        }
        pids[pid_count++] = pid;
    }
    return pids != NULL;
}

static bool reap(pid_t *pid, int *failed)
{
    int status;
    if (!*pid || waitpid(*pid, &status, WNOHANG) != *pid)
        return *pid == 0;
    *failed += !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    *pid = 0;
    return true;
}

int processes_wait(double seconds)
{
    int failed = 0;
    const struct timespec nap = {.tv_nsec = 20000000};
    for (double waited = 0;; waited += 0.02) {
        int left = 0;
        for (int i = 0; i < pid_count; i++)
            left += !reap(&pids[i], &failed);
        if (!left)
            break;
        for (int i = 0; i < pid_count && waited >= seconds; i++)
            if (pids[i])
                kill(pids[i], waited >= seconds + 2 ? SIGKILL : SIGTERM);
        nanosleep(&nap, NULL);
    }
    free(pids);
    pids = NULL;
    pid_count = 0;
    return failed;
}

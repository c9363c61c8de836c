/* main.c - the command: finds the subcommand and hands over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "commands.h"

static const struct command {
    const char *name; /* NULL: the end */
    int (*run)(int argc, char **argv);
    const char *summary;
} commands[] = {
    {"train", cmd_train, "train on this machine: unsplit, split in one process, or as server and client processes"},
    {"server", cmd_server, "the server's role: the layers after the cut, loss and averaging"},
    {"client", cmd_client, "a client's role: the layers before the cut, and the data"},
    {"keygen", cmd_keygen, "a pair of keys for encrypted, authenticated links"},
    {"repro", cmd_repro, "figures and tables of the paper, made again"},
    {"study", cmd_study, "a grid of training runs: resumable, then a table, a picture, a page"},
    {"report", cmd_report, "finished runs side by side"},
    {"codec", cmd_codec, "tensors in .npy files to payloads and back, with sizes and errors"},
    {"models", cmd_models, "networks: layers, costs, and what crosses each cut"},
    {"bench", cmd_bench, "speed against memcpy, peers and the machine's limits"},
    {"data", cmd_data, "data sets: which there are, getting them, checking them"},
    {NULL, NULL, NULL},
};

static void print_help(FILE *out)
{
    fputs("cutwire - split learning over thin links\n\nusage: cutwire COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (const struct command *c = commands; c->name; c++)
        fprintf(out, "  %-8s %s\n", c->name, c->summary);
    fputs("\n`cutwire COMMAND --help` lists its options, with examples.\n", out);
}

static int unknown_command(const char *name)
{
    const char *names[sizeof commands / sizeof commands[0]] = {NULL};
    size_t count = 0;
    for (const struct command *c = commands; c->name; c++)
        names[count++] = c->name;
    const char *near = cli_nearest(name, names, count);
    if (near)
        return cli_fail(CLI_USAGE, "%s: no such command: did you mean '%s'?", name, near);
    return cli_fail(CLI_USAGE, "%s: no such command: run `cutwire --help` for the list", name);
}

/* The OpenMP runtime reads its settings when it is loaded. By default idle threads spin, which costs several times the
 * work itself once server, clients or other programs share the processors; so the command starts over with waiting. */
static void let_idle_threads_sleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) != 0)
        return;
    execv("/proc/self/exe", argv); /* when it cannot, this process is as good, if slower */
}

int main(int argc, char **argv)
{
    let_idle_threads_sleep(argv);
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return CLI_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        puts("cutwire " CUTWIRE_VERSION);
        return CLI_OK;
    }
    for (const struct command *c = commands; c->name; c++)
        if (strcmp(argv[1], c->name) == 0)
            return c->run(argc - 1, argv + 1);
    return unknown_command(argv[1]);
}

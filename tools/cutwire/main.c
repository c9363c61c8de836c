/* main.c - the command: finds the subcommand and hands over. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "cli_man.h"
#include "commands.h"

static const cli_sub commands[] = {
    {"train", cmd_train, "train on this machine: unsplit, split in one process, or as server and client processes"},
    {"server", cmd_server, "the server's role: the layers after the cut, loss and averaging"},
    {"client", cmd_client, "a client's role: the layers before the cut, and the data"},
    {"serve", cmd_serve, "answers requests with the layers after the cut of a trained run"},
    {"infer", cmd_infer, "a trained run's layers before the cut here, the rest at a server: predictions"},
    {"eval", cmd_eval, "a trained run: accuracy against bytes a sample, at every cut"},
    {"keygen", cmd_keygen, "a pair of keys for encrypted, authenticated links"},
    {"repro", cmd_repro, "figures and tables of the paper, made again"},
    {"study", cmd_study, "a grid of training runs: resumable, then a table, a picture, a page"},
    {"report", cmd_report, "finished runs side by side"},
    {"codec", cmd_codec, "tensors in .npy files to payloads and back, with sizes and errors"},
    {"models", cmd_models, "networks: layers, costs, and what crosses each cut"},
    {"bench", cmd_bench, "speed against memcpy, peers and the machine's limits"},
    {"data", cmd_data, "data sets: which there are, getting them, checking them"},
};
enum { COMMANDS = sizeof commands / sizeof commands[0] };

static void print_help(FILE *out)
{
    fputs("cutwire - split learning over thin links\n\nusage: cutwire COMMAND [OPTIONS]\n\ncommands:\n", out);
    for (size_t i = 0; i < COMMANDS; i++)
        fprintf(out, "  %-8s %s\n", commands[i].name, commands[i].summary);
    fputs("\n`cutwire COMMAND --help` lists its options, with examples. `cutwire --version` says which this is.\n"
          "Exit codes: 0 done, 1 something failed (a sentence on standard error says what), 2 wrong usage.\n",
          out);
}

static int unknown_command(const char *name)
{
    const char *names[COMMANDS];
    for (size_t i = 0; i < COMMANDS; i++)
        names[i] = commands[i].name;
    const char *near = cli_nearest(name, names, COMMANDS);
    if (near)
        return cli_fail(CLI_USAGE, "'%s': no such command: did you mean '%s'?", name, near);
    return cli_fail(CLI_USAGE, "'%s': no such command: run `cutwire --help` for the list", name);
}

/* The OpenMP runtime reads its settings when it is loaded. By default idle threads spin, which costs several times the
 * work itself once server, clients or other programs share the processors; so the command starts over with waiting. */
static void let_idle_threads_sleep(char **argv)
{
    if (getenv("OMP_WAIT_POLICY") || setenv("OMP_WAIT_POLICY", "passive", 1) != 0)
        return;
    execv("/proc/self/exe", argv); /* when it cannot, this process is as good, if slower */
}

static int run_command(int argc, char **argv)
{
    for (size_t i = 0; i < COMMANDS; i++)
        if (strcmp(argv[0], commands[i].name) == 0)
            return commands[i].run(argc, argv);
    return unknown_command(argv[0]);
}

/* `cutwire help codec encode` is `cutwire codec encode --help`. */
static int help_of(int argc, char **argv)
{
    char help[] = "--help", *words[4] = {NULL};
    int count = 0;
    if (argc < 2) {
        print_help(stdout);
        return CLI_OK;
    }
    for (; count < 2 && count + 1 < argc; count++)
        words[count] = argv[count + 1];
    words[count++] = help;
    return run_command(count, words);
}

static bool is_one_of(const char *word, const char *a, const char *b)
{
    return strcmp(word, a) == 0 || strcmp(word, b) == 0;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "help") == 0)
        return help_of(argc - 1, argv + 1);
    const bool help = is_one_of(argv[1], "--help", "-h");
    if (!help && !is_one_of(argv[1], "--version", "-V"))
        return strcmp(argv[1], "man") == 0 ? cli_man(commands, COMMANDS, argc - 1, argv + 1)
                                           : run_command(argc - 1, argv + 1);
    if (argc > 2)
        return cli_fail(CLI_USAGE, "'%s' is one argument too many after %s", argv[2], argv[1]);
    if (help)
        print_help(stdout);
    else
        printf("cutwire %s\n", cw_version());
    return CLI_OK;
}

int main(int argc, char **argv)
{
    cli_streams_open();
    let_idle_threads_sleep(argv);
    return cli_streams_close(dispatch(argc, argv));
}

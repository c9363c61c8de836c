/* cmd_train.c - `cutwire train`: all roles on this machine. */
#include <stdio.h>
#include <unistd.h>

#include "commands.h"
#include "processes.h"
#include "train_output.h"

static const char examples[] =
    "  cutwire train --local --data fashion-mnist --model cnn --epochs 2\n"
    "      unsplit training, the baseline\n"
    "  cutwire train --split --clients 4 --cut 2 --epochs 1 --json\n"
    "      server and clients in this process, over the in-process transport; both directions compressed\n"
    "  cutwire train --split --uplink ms:r=0.99,b=2 --downlink none --update none\n"
    "      as in the paper: the activations compressed, the gradients as they are\n"
    "  cutwire train --processes --clients 4 --uplink none --downlink bf16\n"
    "      this process is the server, every client its own process, over TCP on loopback\n"
    "  cutwire train --split --uplink ec:err=0.25 --downlink ec:step=7,round=stochastic,scope=sample\n"
    "      smaller both ways than by default: maps to an error of 25%, gradients in steps of 7 times their rms\n"
    "  cutwire train --preset paper-cifar100 --split --cut medium --clients 10 --batch 26\n"
    "      a recipe by name, with another batch; `cutwire train --preset list` shows all\n"
    "  cutwire train --weights pretrained.safetensors --model resnet18 --data imagefolder:photos --lr 0.01\n"
    "      fine-tunes; a classifier for other classes begins anew\n"
    "  cutwire train --resume runs/20261122-101500-cnn-train-4711\n"
    "      goes on with a run that was stopped or killed, after its last whole epoch\n";

/* Engine threads of a process that shares the machine: oneDNN's spin while they wait for each other, so more of them
 * than processors cost several times the work itself. */
static void share_processors(cw_config *config)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN), sharing = (long)cw_config_integer(config, "clients") + 1;
    char threads[24];
    if (cw_config_integer(config, "threads") > 0)
        return;
    snprintf(threads, sizeof threads, "%ld", processors > sharing ? processors / sharing : 1);
    (void)cw_config_set(config, "threads", threads, NULL);
}

static cw_status train_processes(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err)
{
    cw_transport *transport;
    cw_status status = cw_config_check(config, err);
    if (status == CW_OK)
        status = cw_net_listen("tcp://127.0.0.1:*", NULL, &transport, err);
    if (status != CW_OK)
        return status;
    if (processes_start(config, cw_transport_endpoint(transport))) {
        const cw_server_options options = {.hooks = hooks, .how = "split over TCP", .own_clients = true};
        status = cw_serve_with(config, transport, &options, result, err);
    } else {
        status = CW_ERR_IO;
        snprintf(err->message, sizeof err->message, "cannot start the clients");
    }
    cw_transport_close(&transport, 2000);
    int failed = processes_wait(status == CW_OK ? 10 : 1);
    if (failed && status == CW_OK && !result->stopped)
        fprintf(stderr, "cutwire: train: %d client process%s above\n", failed,
                failed == 1 ? " failed; its message is" : "es failed; their messages are");
    return status;
}

typedef struct train_way {
    const char *mode;
    cw_status (*train)(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err);
} train_way;

static const train_way unsplit = {"unsplit", cw_train_unsplit}, in_process = {"split", cw_train_inproc},
                       in_processes = {"processes", train_processes};

static int train(cw_config *config, const train_way *way, const train_telling *how)
{
    train_output out;
    cw_result result = {0};
    cw_error err = {0};
    if (way == &in_processes)
        share_processors(config);
    cw_hooks hooks;
    const int code = train_output_open(&out, how, "", config, &hooks);
    if (code != CLI_GO_ON)
        return code;
    const cw_status status = way->train(config, &hooks, &result, &err);
    if (status != CW_OK)
        return train_output_failure(&out, status, &err);
    return train_output_finish(&out, config, way->mode, &result);
}

static int run_train(cw_config *config, int argc, char **argv)
{
    const char *preset = NULL;
    train_telling how = TRAIN_TELLING;
    bool local = false, split = false, processes = false;
    const cli_option options[] = {
        {"local", NULL, "train unsplit: the baseline", CLI_FLAG, &local},
        {"split", NULL, "train split, all roles in this process (the default; with --resume: as the run was)", CLI_FLAG,
         &split},
        {"processes", NULL, "train split over TCP, every client in its own process", CLI_FLAG, &processes},
        TRAIN_PRESET_OPTION(&preset),
        TRAIN_TELLING_OPTIONS(&how),
    };
    const cli_command command = {
        .name = "train",
        .args = "",
        .summary = "Trains a network on this machine: unsplit, or split at a cut between a server and clients.",
        .examples = examples,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .keys = CLI_KEYS_ALL,
        .config = config,
    };
    int code = train_parse(&command, &preset, argc, argv);
    if (code != CLI_GO_ON)
        return code;
    if (local + split + processes > 1 && !(split && processes && !local))
        return cli_fail(CLI_USAGE, "train: --local, --split and --processes exclude each other: choose one");
    code = train_take_mode(&command, split || processes, &local);
    if (code == CLI_GO_ON)
        code = cli_log_open(&how.log, "train");
    if (code != CLI_GO_ON)
        return code;
    return train(config, local ? &unsplit : processes ? &in_processes : &in_process, &how);
}

int cmd_train(int argc, char **argv)
{
    return cli_with_config(run_train, argc, argv);
}

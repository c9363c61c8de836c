/* cmd_client.c - `cutwire client`: a client's role, for a server elsewhere. */
#include "cli_keys.h"
#include "commands.h"
#include "train_output.h"

static const char client_examples[] =
    "  cutwire client --connect tcp://127.0.0.1:5555\n"
    "      joins the run of a server on this machine\n"
    "  cutwire client --connect tcp://192.0.2.7:5555 --allow-plaintext --data-dir /media/data --own-data\n"
    "      a server elsewhere, in the clear; all of the local data set is this client's\n"
    "  cutwire client --connect tcp://192.0.2.7:5555 --key device-1.key --server-key server.key.pub\n"
    "      encrypted, by keys that `cutwire keygen` makes\n";

/* Closes the keys when they are no longer needed. */
static cw_status connect_to(const char *endpoint, const cw_config *config, cli_keyring *keys, cw_transport **transport,
                            cw_error *err)
{
    const cw_net_options net = {.allow_plaintext = cw_config_integer(config, "allow-plaintext"),
                                .secret_key = keys->own,
                                .server_key = keys->others};
    const cw_status status = cw_net_connect(endpoint, &net, transport, err);
    cli_keys_close(keys);
    return status;
}

static int run_client(cw_config *config, int argc, char **argv)
{
    const char *connect = "tcp://127.0.0.1:5555", *model = NULL, *key = NULL, *server_key = NULL;
    train_telling how = TRAIN_TELLING;
    const cli_option options[] = {
        {"connect", "ENDPOINT", "the server's address [tcp://127.0.0.1:5555]", CLI_STRING, &connect},
        {"model", "NAME", "refuse a server that trains another model", CLI_STRING, &model},
        {"key", "FILE", "this client's secret key: encrypts, and proves who it is", CLI_STRING, &key},
        {"server-key", "FILE", "the server's public key", CLI_STRING, &server_key},
        {"quiet", NULL, "say nothing but errors", CLI_FLAG, &how.quiet},
        CLI_CONFIG_OPTION(&how.config_file),
        CLI_LOG_OPTIONS(&how.log),
    };
    const cli_command command = {
        .name = "client",
        .args = "",
        .summary = "Runs the layers before the cut on local data. What is trained is the server's decision.",
        .examples = client_examples,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .keys = CLI_KEYS_CLIENT,
        .config = config,
    };
    int code = cli_parse(&command, argc, argv, NULL, NULL);
    if (code == CLI_GO_ON)
        code = cli_log_open(&how.log, "client");
    if (code != CLI_GO_ON)
        return code;
    cli_keyring keys;
    code = cli_keys_open(&keys, key, server_key, "client", "server-key");
    if (code != CLI_GO_ON)
        return code;
    train_output out;
    cw_hooks hooks;
    (void)train_output_open(&out, &how, "client: ", NULL, &hooks); /* a client has no page */
    if (how.quiet)
        hooks.event = NULL;
    cw_error err = {0};
    cw_transport *transport = NULL;
    cw_status status = connect_to(connect, config, &keys, &transport, &err);
    if (status == CW_OK)
        status = cw_join(config, model, transport, &hooks, &err);
    cw_transport_close(&transport, 2000);
    cli_progress_clear(&out.progress);
    if (status == CW_ERR_CANCELLED)
        return cli_fail(CLI_OK, "client: left the run, as asked");
    return status == CW_OK ? CLI_OK : train_output_failure(&out, status, &err);
}

int cmd_client(int argc, char **argv)
{
    return cli_with_config(run_client, argc, argv);
}

/* cmd_client.c - `cutwire client`: a client's role, for a server elsewhere. */
#include "cli_net.h"
#include "commands.h"
#include "train_output.h"

static const char client_examples[] =
    "  cutwire client --connect tcp://127.0.0.1:5555\n"
    "      joins the run of a server on this machine\n"
    "  cutwire client --connect tcp://192.0.2.7:5555 --allow-plaintext --data-dir /media/data --own-data\n"
    "      a server elsewhere, in the clear; all of the local data set is this client's\n"
    "  cutwire client --connect tcp://192.0.2.7:5555 --key device-1.key --server-key server.key.pub\n"
    "      encrypted, by keys that `cutwire keygen` makes\n";

/* What options say of the connection. */
typedef struct client_link {
    const char *connect, *model, *key, *server_key;
    cli_net connection;
} client_link;

static int join(const cw_config *config, const client_link *link, const train_telling *how)
{
    cli_keyring keys;
    cw_net_options net;
    int code = cli_keys_open(&keys, link->key, link->server_key, "client", "server-key");
    if (code == CLI_GO_ON)
        code =
            cli_net_open(&link->connection, "client", cw_config_integer(config, "allow-plaintext"), &keys, false, &net);
    if (code != CLI_GO_ON) {
        cli_keys_close(&keys);
        return code;
    }
    train_output out;
    cw_hooks hooks;
    (void)train_output_open(&out, how, "client: ", NULL, &hooks); /* a client has no page */
    if (how->quiet)
        hooks.event = NULL;
    cw_error err = {0};
    cw_transport *transport = NULL;
    cw_status status = cw_net_connect(link->connect, &net, &transport, &err);
    cli_keys_close(&keys);
    if (status == CW_OK)
        status = cw_join(config, link->model, transport, &hooks, &err);
    cw_transport_close(&transport, 2000);
    cli_progress_clear(&out.progress);
    if (status == CW_ERR_CANCELLED)
        return cli_fail(CLI_OK, "client: left the run, as asked");
    return status == CW_OK ? CLI_OK : train_output_failure(&out, status, &err);
}

static int run_client(cw_config *config, int argc, char **argv)
{
    client_link link = {.connect = "tcp://127.0.0.1:5555", .connection = {CLI_NET_DEFAULTS}};
    train_telling how = TRAIN_TELLING;
    const cli_option options[] = {
        {"connect", "ENDPOINT", "the server's address [tcp://127.0.0.1:5555]", CLI_STRING, &link.connect},
        {"model", "NAME", "refuse a server that trains another model", CLI_STRING, &link.model},
        {"key", "FILE", "this client's secret key: encrypts, and proves who it is", CLI_STRING, &link.key},
        {"server-key", "FILE", "the server's public key", CLI_STRING, &link.server_key},
        CLI_NET_CLIENT_OPTIONS(&link.connection),
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
    return code == CLI_GO_ON ? join(config, &link, &how) : code;
}

int cmd_client(int argc, char **argv)
{
    return cli_with_config(run_client, argc, argv);
}

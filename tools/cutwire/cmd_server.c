/* cmd_server.c - `cutwire server`: the server's role, for clients on other machines. */
#include <stdio.h>

#include "cli_net.h"
#include "commands.h"
#include "train_output.h"

static const char server_examples[] =
    "  cutwire server --listen tcp://127.0.0.1:5555 --clients 2 --model cnn --cut 2 --uplink ms:r=0.99,b=2\n"
    "      clients on this machine\n"
    "  cutwire server --listen 'tcp://0.0.0.0:5555' --allow-plaintext --clients 10 --sample 1x28x28 --classes 10\n"
    "      clients on other machines, in the clear; the server itself needs no data\n"
    "  cutwire server --listen 'tcp://0.0.0.0:5555' --clients 10 --key server.key --client-keys clients.pub\n"
    "      encrypted, and only for clients whose public keys are listed (cutwire keygen)\n";

/* What options say of the connection. */
typedef struct server_link {
    const char *listen, *key, *client_keys;
    cli_net connections;
} server_link;

/* Closes the keys when they are no longer needed. */
static cw_status listen_and_serve(const cw_config *config, const server_link *link, cw_net_options *net,
                                  cli_keyring *keys, const cw_hooks *hooks, const cli_log *log, cw_result *result,
                                  cw_error *err)
{
    const int clients = (int)cw_config_integer(config, "clients");
    cw_transport *transport;
    cli_term_is_awhile();
    cli_net_make_room(net, clients);
    cw_status status = cw_net_listen(link->listen, net, &transport, err);
    cli_keys_close(keys);
    if (status != CW_OK)
        return status;
    cli_log_say(log, CW_LOG_INFO, "listening", "listening on %s for %d client%s", cw_transport_endpoint(transport),
                clients, cli_plural((uint64_t)clients));
    cli_net_renew_keys(transport, link->client_keys, log);
    status = cw_serve(config, transport, hooks, result, err);
    cli_net_keep_keys();
    cw_transport_close(&transport, 2000);
    return status;
}

static int serve(const cw_config *config, const server_link *link, const train_telling *how)
{
    cli_keyring keys;
    cw_net_options net;
    train_output out;
    cw_hooks hooks;
    cw_result result = {0};
    cw_error err = {0};
    int code = cli_keys_open(&keys, link->key, link->client_keys, "server", "client-keys");
    if (code == CLI_GO_ON)
        code =
            cli_net_open(&link->connections, "server", cw_config_integer(config, "allow-plaintext"), &keys, true, &net);
    if (code == CLI_GO_ON)
        code = train_output_open(&out, how, "", config, &hooks);
    if (code != CLI_GO_ON) {
        cli_keys_close(&keys);
        return code;
    }
    const cw_status status = listen_and_serve(config, link, &net, &keys, &hooks, &how->log, &result, &err);
    if (status != CW_OK)
        return train_output_failure(&out, status, &err);
    return train_output_finish(&out, config, "server", &result);
}

static int run_server(cw_config *config, int argc, char **argv)
{
    server_link link = {.listen = "tcp://127.0.0.1:5555", .connections = {CLI_NET_DEFAULTS}};
    const char *preset = NULL;
    train_telling how = TRAIN_TELLING;
    const cli_option options[] = {
        {"listen", "ENDPOINT", "address to listen on [tcp://127.0.0.1:5555]; port * takes a free one", CLI_STRING,
         &link.listen},
        {"key", "FILE", "this server's secret key: encrypts, and lets only listed clients in", CLI_STRING, &link.key},
        {"client-keys", "FILE", "public keys of the clients that are let in, one a line", CLI_STRING,
         &link.client_keys},
        CLI_NET_SERVER_OPTIONS(&link.connections),
        TRAIN_PRESET_OPTION(&preset),
        TRAIN_TELLING_OPTIONS(&how),
    };
    const cli_command command = {
        .name = "server",
        .args = "",
        .summary = "Runs the layers after the cut for clients that connect. What is trained is decided here; clients "
                   "are told.",
        .examples = server_examples,
        .options = options,
        .option_count = sizeof options / sizeof options[0],
        .keys = CLI_KEYS_ALL,
        .config = config,
    };
    int code = train_parse(&command, &preset, argc, argv);
    if (code == CLI_GO_ON)
        code = train_take_mode(&command, true, &(bool){false});
    if (code == CLI_GO_ON)
        code = cli_log_open(&how.log, "server");
    return code == CLI_GO_ON ? serve(config, &link, &how) : code;
}

int cmd_server(int argc, char **argv)
{
    return cli_with_config(run_server, argc, argv);
}

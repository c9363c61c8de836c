/* cmd_server.c - `cutwire server`: the server's role, for clients on other machines. */
#include <stdio.h>
#include <sys/resource.h>

#include "cli_keys.h"
#include "commands.h"
#include "train_output.h"

static const char server_examples[] =
    "  cutwire server --listen tcp://127.0.0.1:5555 --clients 2 --model cnn --cut 2 --uplink ms:r=0.99,b=2\n"
    "      clients on this machine\n"
    "  cutwire server --listen 'tcp://0.0.0.0:5555' --allow-plaintext --clients 10 --sample 1x28x28 --classes 10\n"
    "      clients on other machines, in the clear; the server itself needs no data\n"
    "  cutwire server --listen 'tcp://0.0.0.0:5555' --clients 10 --key server.key --client-keys clients.pub\n"
    "      encrypted, and only for clients whose public keys are listed (cutwire keygen)\n";

/* A connection is an open file: asks for as many as there are clients, and some, where the system's own limit allows.
 */
static void make_room(int clients)
{
    struct rlimit limit;
    const rlim_t wanted = 2 * (rlim_t)clients + 512;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted)
        return;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Closes the keys when they are no longer needed. */
static cw_status listen_and_serve(const cw_config *config, const char *listen, cli_keyring *keys, const cw_hooks *hooks,
                                  const cli_log *log, cw_result *result, cw_error *err)
{
    const int clients = (int)cw_config_integer(config, "clients");
    const cw_net_options net = {.allow_plaintext = cw_config_integer(config, "allow-plaintext"),
                                .secret_key = keys->own,
                                .client_keys = keys->others,
                                .client_key_count = keys->other_count};
    cw_transport *transport;
    cli_term_is_awhile();
    make_room(clients);
    cw_status status = cw_net_listen(listen, &net, &transport, err);
    cli_keys_close(keys);
    if (status != CW_OK)
        return status;
    cli_log_say(log, CW_LOG_INFO, "listening", "listening on %s for %d clients", cw_transport_endpoint(transport),
                clients);
    status = cw_serve(config, transport, hooks, result, err);
    cw_transport_close(&transport, 2000);
    return status;
}

static int run_server(cw_config *config, int argc, char **argv)
{
    const char *listen = "tcp://127.0.0.1:5555", *key = NULL, *client_keys = NULL, *preset = NULL;
    train_telling how = TRAIN_TELLING;
    const cli_option options[] = {
        {"listen", "ENDPOINT", "address to listen on [tcp://127.0.0.1:5555]; port * takes a free one", CLI_STRING,
         &listen},
        {"key", "FILE", "this server's secret key: encrypts, and lets only listed clients in", CLI_STRING, &key},
        {"client-keys", "FILE", "public keys of the clients that are let in, one a line", CLI_STRING, &client_keys},
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
    if (code != CLI_GO_ON)
        return code;
    cli_keyring keys;
    code = cli_keys_open(&keys, key, client_keys, "server", "client-keys");
    if (code != CLI_GO_ON)
        return code;
    train_output out;
    cw_hooks hooks;
    cw_result result = {0};
    cw_error err = {0};
    code = train_output_open(&out, &how, "", config, &hooks);
    if (code != CLI_GO_ON) {
        cli_keys_close(&keys);
        return code;
    }
    const cw_status status = listen_and_serve(config, listen, &keys, &hooks, &how.log, &result, &err);
    if (status != CW_OK)
        return train_output_failure(&out, status, &err);
    return train_output_finish(&out, config, "server", &result);
}

int cmd_server(int argc, char **argv)
{
    return cli_with_config(run_server, argc, argv);
}

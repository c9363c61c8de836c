/* cmd_keygen.c - `cutwire keygen`: a pair of CURVE keys. */
#include <stdio.h>

#include "cli.h"
#include "commands.h"

int cmd_keygen(int argc, char **argv)
{
    bool json = false;
    const cli_option options[] = {{"json", NULL, "print one JSON object", CLI_FLAG, &json}};
    const cli_command command = {
        .name = "keygen",
        .args = "FILE",
        .summary = "Makes a pair of CURVE keys: FILE is the secret one, which never leaves its machine, FILE.pub the "
                   "public one. Files that exist are never replaced.",
        .examples = "  cutwire keygen server.key\n"
                    "  cutwire keygen device-1.key\n"
                    "      on each machine; then collect the devices' public keys for the server:\n"
                    "  cat device-*.key.pub > clients.pub\n"
                    "  cutwire server --listen 'tcp://0.0.0.0:5555' --key server.key --client-keys clients.pub\n"
                    "  cutwire client --connect tcp://192.0.2.7:5555 --key device-1.key --server-key server.key.pub\n",
        .options = options,
        .option_count = 1,
        .min_args = 1,
        .max_args = 1,
    };
    const char *file[1];
    int count, code = cli_parse(&command, argc, argv, file, &count);
    if (code != CLI_GO_ON)
        return code;
    cw_key public_key;
    cw_error err;
    cw_status status = cw_net_keygen(file[0], &public_key, &err);
    if (status != CW_OK)
        return cli_fail_error("keygen", status, &err);
    if (json)
        return cli_print_json(
            json_pack("{s:o,s:s}", "secret_key_file", cli_json_text(file[0]), "public_key", public_key.text));
    printf("secret key: %s (keep it on this machine)\npublic key: %s.pub\n%s\n", file[0], file[0], public_key.text);
    return CLI_OK;
}

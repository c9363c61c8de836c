/* cli_keys.h - the key options of `server` and `client`. */
#ifndef CLI_KEYS_H
#define CLI_KEYS_H

#include "cli.h"

/* Keys read from the files that options name; all zero: none. */
typedef struct cli_keyring {
    cw_key *own, *others; /* this end's secret key; public keys of the other end: the server's, or all clients' */
    size_t own_count, other_count;
} cli_keyring;

/* Both files, or neither (NULL). `others_option` is named in messages. CLI_GO_ON, or an exit code with a message
 * printed. */
int cli_keys_open(cli_keyring *keys, const char *own_file, const char *others_file, const char *command,
                  const char *others_option);
void cli_keys_close(cli_keyring *keys);

#endif

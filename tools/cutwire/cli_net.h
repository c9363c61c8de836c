/* cli_net.h - options of connections, which all commands with a network share. */
#ifndef CLI_NET_H
#define CLI_NET_H

#include "cli.h"
#include "cli_keys.h"
#include "cli_log.h"

typedef struct cli_net {
    double heartbeat, send_timeout;
    int connections;
    const char *max_frame;
} cli_net;

/* Of cli_net's members, and of the options. */
#define CLI_NET_DEFAULTS .heartbeat = 2, .send_timeout = 30

#define CLI_NET_OPTIONS(net)                                                                                           \
    {"heartbeat", "SECONDS",                                                                                           \
     "ask a silent connection so often; after three times that long it is broken; 0: never "                           \
     "[2]",                                                                                                            \
     CLI_DOUBLE, &(net)->heartbeat},                                                                                   \
    {                                                                                                                  \
        "max-frame", "SIZE",                                                                                           \
            "refuse larger frames: bytes, or a number with K, M or G [serve: 256M; else 1G, or what the model "        \
            "can make]",                                                                                               \
            CLI_STRING, &(net)->max_frame                                                                              \
    }
#define CLI_NET_CLIENT_OPTIONS(net)                                                                                    \
    CLI_NET_OPTIONS(net),                                                                                              \
    {                                                                                                                  \
        "send-timeout", "SECONDS", "give up when a frame finds no room in the queue for so long; 0: never [30]",       \
            CLI_DOUBLE, &(net)->send_timeout                                                                           \
    }
#define CLI_NET_SERVER_OPTIONS(net)                                                                                    \
    CLI_NET_OPTIONS(net),                                                                                              \
    {                                                                                                                  \
        "connections", "N",                                                                                            \
            "connections at once; further ones are closed; 0: as many as the limit of open files leaves "              \
            "room for [0]",                                                                                            \
            CLI_INT, &(net)->connections                                                                               \
    }

/* CLI_GO_ON, with *options filled in (the keys are keys'), or the exit code: a value is out of range. */
int cli_net_open(const cli_net *net, const char *command, bool plaintext, const cli_keyring *keys, bool server,
                 cw_net_options *options);
/* A server's, for so many clients: its open files, and threads. */
void cli_net_make_room(cw_net_options *options, int clients);

/* From now on SIGHUP reads the list of client keys of that server again. A list that cannot be read or taken is told,
 * and the old one stays. Until cli_net_keep_keys, which comes before the transport is closed. Without `path`: nothing.
 */
void cli_net_renew_keys(cw_transport *transport, const char *path, const cli_log *log);
void cli_net_keep_keys(void);

#endif

/* live_http.h - who may ask a live page: addresses, tokens, names of hosts. */
#ifndef CLI_LIVE_HTTP_H
#define CLI_LIVE_HTTP_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>

#include "live.h"

enum { LIVE_TOKEN_LEAST = 16, LIVE_TOKEN_MOST = 256 };

typedef struct live_address {
    struct sockaddr_storage socket;
    bool loopback;
} live_address;

/* HOST:PORT, [HOST]:PORT; port * or 0 takes a free one. CLI_GO_ON, or the exit code after a message. */
int live_address_parse(const char *role, const char *text, live_address *out);
/* The first line of a file. Likewise. */
int live_token_read(const char *role, const char *path, char token[LIVE_TOKEN_MOST + 1]);
/* Whether an Authorization header (NULL: there is none) shows the token: "Bearer TOKEN", or "Basic" with it as the
 * password. Takes as long for a wrong one as for the right one. */
bool live_token_shown(const char *authorization, const char *token);
/* Whether a Host header names this machine as such. A page elsewhere whose name is made to lead here names another. */
bool live_host_is_local(const char *host);

#endif

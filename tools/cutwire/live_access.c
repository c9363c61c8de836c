/* live_access.c - see live_http.h. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "live_http.h"

/* ---- addresses ---- */

static bool parse_port(const char *text, in_port_t *port)
{
    char *end;
    if (strcmp(text, "*") == 0)
        text = "0";
    const unsigned long number = strtoul(text, &end, 10);
    *port = htons((in_port_t)number);
    return isdigit((unsigned char)*text) && !*end && number <= 65535;
}

static bool parse_host(const char *host, in_port_t port, live_address *out)
{
    struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)&out->socket;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)&out->socket;
    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = port;
        out->loopback = ntohl(v4->sin_addr.s_addr) >> 24 == 127;
        return true;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) != 1)
        return false;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = port;
    out->loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return true;
}

int live_address_parse(const char *role, const char *text, live_address *out)
{
    char host[80];
    const char *colon = strrchr(text, ':');
    size_t length = colon ? (size_t)(colon - text) : 0;
    const char *from = text;
    if (length > 2 && *text == '[' && colon[-1] == ']') {
        from++;
        length -= 2;
    }
    snprintf(host, sizeof host, "%.*s", (int)(length < sizeof host ? length : 0), from);
    in_port_t port;
    if (!colon || !parse_port(colon + 1, &port) || !parse_host(host, port, out))
        return cli_fail(CLI_USAGE,
                        "%s: --http: '%s' is no address: give a number and a port, as 127.0.0.1:8080 or "
                        "[::1]:8080",
                        role, text);
    return CLI_GO_ON;
}

/* ---- tokens ---- */

int live_token_read(const char *role, const char *path, char token[LIVE_TOKEN_MOST + 1])
{
    char line[LIVE_TOKEN_MOST + 3];
    FILE *in = fopen(path, "r");
    if (!in)
        return cli_fail(CLI_FAILURE, "%s: --http-token: %s: %s", role, path, strerror(errno));
    const bool any = fgets(line, sizeof line, in) != NULL;
    fclose(in);
    const size_t length = any ? strcspn(line, "\r\n") : 0;
    bool good = length >= LIVE_TOKEN_LEAST && length <= LIVE_TOKEN_MOST;
    for (size_t i = 0; i < length; i++)
        good = good && isgraph((unsigned char)line[i]) && line[i] != ':';
    if (!good)
        return cli_fail(CLI_FAILURE,
                        "%s: --http-token: %s: its first line is no token: %d to %d letters, digits and signs are "
                        "wanted, as `openssl rand -hex 24` makes them",
                        role, path, LIVE_TOKEN_LEAST, LIVE_TOKEN_MOST);
    snprintf(token, LIVE_TOKEN_MOST + 1, "%.*s", (int)length, line);
    return CLI_GO_ON;
}

static bool same(const char *shown, const char *token)
{
    const size_t length = strlen(token), given = strlen(shown);
    unsigned differs = length != given;
    for (size_t i = 0; i < length; i++)
        differs |= (unsigned)(unsigned char)token[i] ^ (unsigned)(unsigned char)(given ? shown[i % given] : 0);
    return !differs;
}

static int base64_value(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Stops at whatever is no digit. */
static void decode_base64(const char *text, char *out, size_t size)
{
    unsigned bits = 0, have = 0;
    size_t used = 0;
    for (int value; (value = base64_value(*text)) >= 0 && used + 1 < size; text++) {
        bits = (bits << 6 | (unsigned)value) & 0xffff;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[used++] = (char)(bits >> have & 0xff);
        }
    }
    out[used] = '\0';
}

bool live_token_shown(const char *authorization, const char *token)
{
    char pair[2 * LIVE_TOKEN_MOST];
    if (!authorization)
        return false;
    if (strncasecmp(authorization, "Bearer ", 7) == 0)
        return same(authorization + 7, token);
    if (strncasecmp(authorization, "Basic ", 6) != 0)
        return false;
    decode_base64(authorization + 6, pair, sizeof pair);
    const char *colon = strchr(pair, ':');
    return colon && same(colon + 1, token);
}

/* ---- hosts ---- */

bool live_host_is_local(const char *host)
{
    char name[80];
    live_address address;
    if (!host || strlen(host) >= sizeof name)
        return false;
    const char *from = *host == '[' ? host + 1 : host;
    const size_t length = *host == '[' ? strcspn(from, "]") : strcspn(from, ":");
    snprintf(name, sizeof name, "%.*s", (int)length, from);
    return strcasecmp(name, "localhost") == 0 || (parse_host(name, 0, &address) && address.loopback);
}

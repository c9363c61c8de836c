/* endpoint.c - parses TCP endpoints, and finds out whether they stay on this machine. */
#include <arpa/inet.h>
#include <ctype.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/endpoint.h"

static cw_status malformed(cw_error *err, const char *text, const char *why)
{
    return cwi_fail(err, CW_ERR_INVALID, "endpoint \"%s\": %s; an example is tcp://127.0.0.1:5555", text, why);
}

static cw_status parse_port(const char *text, const char *port, bool listen, cwi_tcp_endpoint *out, cw_error *err)
{
    if (listen && (!strcmp(port, "*") || !strcmp(port, "0"))) {
        out->port = 0;
        return CW_OK;
    }
    size_t digits = strspn(port, "0123456789");
    if (!digits || digits > 5 || port[digits])
        return malformed(err, text,
                         listen ? "its port must be 1 to 65535, or * for a free one" : "its port must be 1 to 65535");
    out->port = atoi(port);
    if (out->port < 1 || out->port > 65535)
        return malformed(err, text, "its port must be 1 to 65535");
    return CW_OK;
}

static bool is_loopback(const struct sockaddr *address)
{
    if (address->sa_family == AF_INET) {
        struct sockaddr_in v4;
        memcpy(&v4, address, sizeof v4);
        return ntohl(v4.sin_addr.s_addr) >> 24 == 127;
    }
    struct sockaddr_in6 v6;
    memcpy(&v6, address, sizeof v6);
    return IN6_IS_ADDR_LOOPBACK(&v6.sin6_addr);
}

/* Looks the host up. Loopback only if all its addresses are: ZeroMQ may take any. */
static cw_status look_up(const char *text, bool listen, cwi_tcp_endpoint *out, cw_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_family = out->ipv6 ? AF_INET6 : AF_INET}, *found;
    if (listen || out->ipv6)
        hints.ai_flags = AI_NUMERICHOST;
    int failure = getaddrinfo(out->host, NULL, &hints, &found);
    if (failure && hints.ai_flags)
        return malformed(err, text,
                         listen ? "to listen, give one of this machine's addresses, or * for all"
                                : "its host is no IPv6 address");
    if (failure)
        return cwi_fail(err, CW_ERR_IO, "endpoint \"%s\": cannot find the host %s: %s", text, out->host,
                        gai_strerror(failure));
    out->loopback = true;
    for (const struct addrinfo *a = found; a; a = a->ai_next)
        out->loopback = out->loopback && is_loopback(a->ai_addr);
    freeaddrinfo(found);
    return CW_OK;
}

/* Splits "HOST:PORT" or "[HOST]:PORT"; *port points into text. */
static cw_status split(const char *text, cwi_tcp_endpoint *out, const char **port, cw_error *err)
{
    const char *host = text + strlen("tcp://"), *end = strrchr(host, ':');
    if (!end || end == host)
        return malformed(err, text, "it has no HOST:PORT");
    *port = end + 1;
    size_t length = (size_t)(end - host);
    if (host[0] == '[') {
        if (length < 3 || host[length - 1] != ']')
            return malformed(err, text, "its [IPv6] address is not closed");
        out->ipv6 = true;
        host++;
        length -= 2;
    }
    if (length >= sizeof out->host)
        return malformed(err, text, "its host is too long");
    for (size_t i = 0; i < length; i++)
        if (!isalnum((unsigned char)host[i]) && !strchr(out->ipv6 ? ":.%" : ".-_*", host[i]))
            return malformed(err, text, "its host holds a character that no host has");
    memcpy(out->host, host, length);
    out->host[length] = 0;
    return CW_OK;
}

cw_status cwi_endpoint_parse(const char *text, bool listen, cwi_tcp_endpoint *out, cw_error *err)
{
    *out = (cwi_tcp_endpoint){0};
    const char *port = "";
    CWI_TRY(split(text, out, &port, err));
    CWI_TRY(parse_port(text, port, listen, out, err));
    if (listen && !strcmp(out->host, "localhost"))
        strcpy(out->host, "127.0.0.1"); /* listening takes addresses only */
    if (!strcmp(out->host, "*") && !listen)
        return malformed(err, text, "to connect, name one host");
    if (strcmp(out->host, "*"))
        CWI_TRY(look_up(text, listen, out, err));
    char number[8] = "*";
    if (out->port)
        snprintf(number, sizeof number, "%d", out->port);
    snprintf(out->text, sizeof out->text, out->ipv6 ? "tcp://[%s]:%s" : "tcp://%s:%s", out->host, number);
    return CW_OK;
}

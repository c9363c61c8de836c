/* tcp_proxy.h - a thread between client and server that counts the bytes it passes on, and can be a bad link. */
#ifndef CWI_TCP_PROXY_H
#define CWI_TCP_PROXY_H

#include <stdbool.h>
#include <stdint.h>

typedef struct tcp_proxy tcp_proxy;

/* Passes connections on to the server at `endpoint` (tcp://127.0.0.1:PORT). NULL when it cannot. */
tcp_proxy *tcp_proxy_start(const char *endpoint);
void tcp_proxy_stop(tcp_proxy *proxy);
/* Where clients connect. */
const char *tcp_proxy_endpoint(const tcp_proxy *proxy);

uint64_t tcp_proxy_up(tcp_proxy *proxy);   /* bytes passed on to the server, */
uint64_t tcp_proxy_down(tcp_proxy *proxy); /* to clients, */
int tcp_proxy_accepted(tcp_proxy *proxy);  /* and connections, since the start */

/* Whether 16 equal bytes in a row have passed, which encrypted traffic has not. */
bool tcp_proxy_saw_runs(tcp_proxy *proxy);
void tcp_proxy_forget_runs(tcp_proxy *proxy);

void tcp_proxy_set_rate(tcp_proxy *proxy, int bytes_per_second); /* each way; 0: as fast as it goes */
void tcp_proxy_set_silent(tcp_proxy *proxy, bool silent);        /* nothing passes, nothing is closed */
void tcp_proxy_cut(tcp_proxy *proxy);                            /* closes all connections */
/* Closes them towards the clients only: the server does not notice. */
void tcp_proxy_cut_clients(tcp_proxy *proxy);

#endif

/* absent.c - a build for clients: no server's side, and no run in this process alone. */
#include "modes/sync.h"

const cwi_work cwi_sync_work = {0}; /* nobody opens a session on it */

cw_status cwi_sync_open_server(cw_server *server, void **state, cw_error *err)
{
    (void)server;
    *state = NULL;
    return cwi_fail(err, CW_ERR_UNSUPPORTED, "this build is for clients: it has no server");
}

void cwi_sync_close_server(void *state)
{
    (void)state;
}

const cwi_mode cwi_mode_whole = {.name = "whole", .summary = "not in a build for clients"};

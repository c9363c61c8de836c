/* sync.c - the mode in which all clients and the server take each step together. */
#include "modes/sync.h"

const cwi_mode cwi_mode_sync = {
    .name = "sync",
    .summary = "every step waits for every client, and all halves take the same step of the optimizer",
    .work = &cwi_sync_work,
    .open_server = cwi_sync_open_server,
    .close_server = cwi_sync_close_server,
    .open_client = cwi_sync_open_client,
    .close_client = cwi_sync_close_client,
    .take = cwi_sync_take,
    .pending = cwi_sync_pending,
    .go_on = cwi_sync_go_on,
};

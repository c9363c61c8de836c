/* local.c - server and clients in one process and one thread, over the in-process transport. */
#include <stdio.h>
#include <string.h>

#include "cutwire/train.h"
#include "modes/mode.h"

typedef struct local_run {
    cw_server *server;
    cw_transport *server_end;
    cw_client **clients;
    cw_transport **client_ends;
    size_t count;
    bool told; /* what there is to know of the data */
} local_run;

/* The clients are where the server is: a folder that `data` names is theirs too, though only the name of the set
 * travels. */
static cw_config client_config(const cw_config *config)
{
    cw_config client = *config;
    const char *colon = strchr(config->data, ':');
    if (colon && !*client.data_dir)
        snprintf(client.data_dir, sizeof client.data_dir, "%s", colon + 1);
    return client;
}

static cw_status open_run(const cw_config *config, const cw_hooks *hooks, local_run *r, cw_error *err)
{
    char endpoint[64];
    const cw_config client = client_config(config);
    snprintf(endpoint, sizeof endpoint, "inproc://local-%p", (void *)r);
    r->count = (size_t)config->clients;
    r->clients = cwi_calloc(r->count, sizeof *r->clients);
    r->client_ends = cwi_calloc(r->count, sizeof *r->client_ends);
    if (!r->clients || !r->client_ends)
        return cwi_fail_memory(err, r->count * sizeof *r->clients);
    CWI_TRY(cw_net_listen(endpoint, NULL, &r->server_end, err));
    const cw_server_options options = {.hooks = hooks, .how = "split in process", .own_clients = true};
    CWI_TRY(cw_server_create(config, r->server_end, &options, &r->server, err));
    for (size_t i = 0; i < r->count; i++) {
        CWI_TRY(cw_net_connect(endpoint, NULL, &r->client_ends[i], err));
        CWI_TRY(cw_client_create(&client, r->client_ends[i], NULL, &r->clients[i], err));
        CWI_TRY(cw_client_start(r->clients[i], err));
    }
    return CW_OK;
}

static void close_run(local_run *r)
{
    for (size_t i = 0; i < r->count; i++) {
        if (r->clients)
            cw_client_destroy(&r->clients[i]);
        if (r->client_ends)
            cw_transport_close(&r->client_ends[i], 0);
    }
    cwi_free(r->clients);
    cwi_free(r->client_ends);
    cw_server_destroy(&r->server);
    cw_transport_close(&r->server_end, 0);
}

/* Lets the server take all that has come. */
static cw_status pump_server(local_run *r, bool *moved, cw_error *err)
{
    cw_frame frame;
    cw_status status;
    while ((status = cw_transport_recv(r->server_end, 0, &frame, err)) == CW_OK) {
        *moved = true;
        CWI_TRY(cw_server_handle(r->server, &frame, err));
    }
    return status == CW_ERR_TIMEOUT ? CW_OK : status;
}

static cw_status pump_client(local_run *r, size_t i, bool *moved, cw_error *err)
{
    cw_frame frame;
    cw_status status;
    while ((status = cw_transport_recv(r->client_ends[i], 0, &frame, err)) == CW_OK) {
        *moved = true;
        status = cw_client_handle(r->clients[i], &frame, err);
        if (status != CW_OK)
            return cwi_fail_prefix(err, status, "client %zu", i + 1);
    }
    if (status == CW_ERR_TIMEOUT)
        CWI_TRY(cw_client_tick(r->clients[i], NULL, err));
    return status == CW_ERR_TIMEOUT ? CW_OK : status;
}

/* The clients are silent, for the server says the rest, too; the data are the same for all. */
static void tell_of_data(local_run *r)
{
    const cw_client *client = r->clients[0];
    if (r->told || !client->state)
        return;
    cwi_report_data(&r->server->report, &client->train);
    cwi_report_data(&r->server->report, &client->test);
    r->told = true;
}

static cw_status run(local_run *r, cw_error *err)
{
    while (!cw_server_done(r->server)) {
        if (cwi_report_stop_asked(&r->server->report))
            return CW_ERR_CANCELLED;
        bool moved = false;
        CWI_TRY(pump_server(r, &moved, err));
        for (size_t i = 0; i < r->count; i++)
            CWI_TRY(pump_client(r, i, &moved, err));
        tell_of_data(r);
        if (!moved && !cw_server_done(r->server))
            return cwi_fail(err, CW_ERR_PROTOCOL, "server and clients wait for each other");
    }
    return CW_OK;
}

cw_status cw_train_unsplit(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err)
{
    return cwi_mode_whole.alone(config, hooks, result, err);
}

cw_status cw_train_inproc(const cw_config *config, const cw_hooks *hooks, cw_result *result, cw_error *err)
{
    local_run r;
    memset(&r, 0, sizeof r);
    memset(result, 0, sizeof *result);
    cw_status status = open_run(config, hooks, &r, err);
    if (status == CW_OK)
        status = run(&r, err);
    if (r.server)
        status = cw_server_finish(r.server, status, "training is finished", result, err);
    close_run(&r);
    return status;
}

/* labels.c - whose label is which: the names that a client's data have for their classes, and the run's. */
#include <string.h>

#include "modes/mode.h"

cw_status cwi_labels_open(cwi_labels *l, size_t clients, cw_error *err)
{
    *l = (cwi_labels){.count = clients};
    l->clients = cwi_calloc(clients, sizeof *l->clients);
    return l->clients ? CW_OK : cwi_fail_memory(err, clients * sizeof *l->clients);
}

void cwi_labels_close(cwi_labels *l)
{
    for (size_t i = 0; l->clients && i < l->count; i++)
        cwi_free(l->clients[i].map);
    cwi_free(l->clients);
    memset(l, 0, sizeof *l);
}

/* WELCOME and the run's folder have the names from now on. */
static cw_status publish(cw_server *s, cw_error *err)
{
    uint8_t *welcome;
    size_t size;
    CWI_TRY(cwi_welcome_write(&s->setup, &welcome, &size, err));
    cwi_free(s->welcome);
    s->welcome = welcome;
    s->session.options.welcome = welcome;
    s->session.options.welcome_size = size;
    cw_error why;
    if (cwi_report_write_classes(&s->report, &s->setup, &why) != CW_OK)
        cwi_report_warn(&s->report, "not_saved", "cannot write the names of the classes: %s; training goes on",
                        why.message);
    return CW_OK;
}

static cw_status fail_more(const cw_server *s, const cwi_classes *own, cw_error *err)
{
    char *list = cwi_classes_list(own);
    cwi_report_warn(&s->report, "client_refused", "refused a client of the classes %s", list ? list : "");
    cwi_free(list);
    return cwi_fail(err, CW_ERR_MISMATCH, "its data have %zu classes, this run has %d", own->count,
                    s->setup.config.classes);
}

/* Names that this run has not, though it has as many as it has classes. */
static cw_status fail_unknown(const cw_server *s, const cwi_classes *own, cw_error *err)
{
    char *both;
    if (own->count > (size_t)s->setup.config.classes && !s->setup.classes.count)
        return fail_more(s, own, err);
    const cw_status status = cwi_classes_refuse(&s->setup.classes, own, &both, err);
    if (both && strlen(both) >= CWI_CLASSES_INLINE)
        cwi_report_warn(&s->report, "client_refused", "refused a client: %s", both);
    cwi_free(both);
    return status;
}

/* A run that has yet to be told its classes takes them as clients name them, until it has as many as it needs. */
static cw_status learn(cwi_labels *l, cw_server *s, size_t client, const cwi_classes *own, cw_error *err)
{
    cwi_classes *run = &s->setup.classes;
    const size_t unknown = cwi_classes_unknown(run, own);
    if (!unknown)
        return CW_OK;
    if (run->count + unknown > (size_t)s->setup.config.classes)
        return fail_unknown(s, own, err);
    CWI_TRY(cwi_classes_add(run, own, err));
    l->learned = true;
    char *list = cwi_classes_list(run);
    cwi_report_log(&s->report, "the run's classes, by client %zu's data: %s", client + 1, list ? list : "");
    cwi_free(list);
    return publish(s, err);
}

static void clear_map(cwi_labels *l, size_t client)
{
    cwi_free(l->clients[client].map);
    memset(&l->clients[client], 0, sizeof l->clients[client]);
}

static cw_status admit(cwi_labels *l, cw_server *s, size_t client, const cwi_classes *own, cw_error *err)
{
    clear_map(l, client);
    l->clients[client].count = own->count ? (int)own->count : s->setup.config.classes;
    if (!own->count)
        return CW_OK;
    CWI_TRY(learn(l, s, client, own, err));
    return cwi_classes_map(&s->setup.classes, own, &l->clients[client].map, err);
}

cw_status cwi_labels_admit(cwi_labels *l, cw_server *server, size_t client, const cw_msg *ready, cw_error *err)
{
    enum { MOST = 100000 }; /* the limit of the key "classes" */
    cwi_classes own;
    cw_status status = cwi_classes_parse(ready->blob, ready->blob_size, MOST, &own, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "the names of its classes");
    status = admit(l, server, client, &own, err);
    cwi_classes_free(&own);
    return status;
}

void cwi_labels_forget(cwi_labels *l, cw_server *server, size_t client)
{
    const cwi_session *s = &server->session;
    clear_map(l, client);
    if (!l->learned || s->begun || cwi_session_count(s, CWI_MEMBER_READY))
        return;
    cwi_classes_free(&server->setup.classes);
    l->learned = false;
    (void)publish(server, NULL);
}

cw_status cwi_labels_take(const cwi_labels *l, size_t client, const cw_msg *msg, int32_t *labels, cw_error *err)
{
    const struct cwi_label_map *of = &l->clients[client];
    CWI_TRY(cw_msg_labels(msg, of->count, labels, err));
    for (uint64_t i = 0; of->map && i < msg->samples; i++)
        labels[i] = of->map[labels[i]];
    return CW_OK;
}

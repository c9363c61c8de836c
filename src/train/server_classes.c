/* server_classes.c - whose label is which: the names that a client's data have for their classes, and the run's. */
#include <string.h>

#include "train/server.h"

/* WELCOME and the run's folder have the names from now on. */
static cw_status publish(cwi_server *s, cw_error *err)
{
    uint8_t *welcome;
    size_t size;
    CWI_TRY(cwi_welcome_write(&s->setup, &welcome, &size, err));
    cwi_free(s->welcome);
    s->welcome = welcome;
    s->welcome_size = size;
    cw_error why;
    if (cwi_report_write_classes(&s->report, &s->setup, &why) != CW_OK)
        cwi_report_log(&s->report, "cannot write the names of the classes: %s; training goes on", why.message);
    return CW_OK;
}

static cw_status fail_more(const cwi_server *s, const cwi_classes *own, cw_error *err)
{
    char *list = cwi_classes_list(own);
    cwi_report_log(&s->report, "refused a client of the classes %s", list ? list : "");
    cwi_free(list);
    return cwi_fail(err, CW_ERR_MISMATCH, "its data have %zu classes, this run has %d", own->count,
                    s->setup.config.classes);
}

/* Names that this run has not, though it has as many as it has classes. */
static cw_status fail_unknown(const cwi_server *s, const cwi_classes *own, cw_error *err)
{
    char *both;
    if (own->count > (size_t)s->setup.config.classes && !s->setup.classes.count)
        return fail_more(s, own, err);
    cw_status status = cwi_classes_refuse(&s->setup.classes, own, &both, err);
    if (both && strlen(both) >= CWI_CLASSES_INLINE)
        cwi_report_log(&s->report, "refused a client: %s", both);
    cwi_free(both);
    return status;
}

/* A run that has yet to be told its classes takes them as clients name them, until it has as many as it needs. */
static cw_status learn(cwi_server *s, const cwi_slot *slot, const cwi_classes *own, cw_error *err)
{
    cwi_classes *run = &s->setup.classes;
    const size_t unknown = cwi_classes_unknown(run, own);
    if (!unknown)
        return CW_OK;
    if (run->count + unknown > (size_t)s->setup.config.classes)
        return fail_unknown(s, own, err);
    CWI_TRY(cwi_classes_add(run, own, err));
    s->classes_learned = true;
    char *list = cwi_classes_list(run);
    cwi_report_log(&s->report, "the run's classes, by client %zu's data: %s", (size_t)(slot - s->slots) + 1,
                   list ? list : "");
    cwi_free(list);
    return publish(s, err);
}

static cw_status take(cwi_server *s, cwi_slot *slot, const cwi_classes *own, cw_error *err)
{
    slot->labels = own->count ? (int)own->count : s->setup.config.classes;
    if (!own->count)
        return CW_OK;
    CWI_TRY(learn(s, slot, own, err));
    return cwi_classes_map(&s->setup.classes, own, &slot->label_map, err);
}

cw_status cwi_server_take_classes(cwi_server *s, cwi_slot *slot, const cw_msg *ready, cw_error *err)
{
    enum { MOST = 100000 }; /* config.c's limit */
    cwi_classes own;
    cw_status status = cwi_classes_parse(ready->blob, ready->blob_size, MOST, &own, err);
    if (status != CW_OK)
        return cwi_fail_prefix(err, status, "the names of its classes");
    status = take(s, slot, &own, err);
    cwi_classes_free(&own);
    return status;
}

void cwi_server_forget_classes(cwi_server *s)
{
    bool ready = false;
    for (size_t i = 0; i < s->slot_count; i++)
        ready |= s->slots[i].state >= CWI_SLOT_READY;
    if (!s->classes_learned || s->stage != CWI_STAGE_JOINING || ready)
        return;
    cwi_classes_free(&s->setup.classes);
    s->classes_learned = false;
    (void)publish(s, NULL);
}

cw_status cwi_server_labels(cwi_server *s, const cwi_slot *slot, const cw_msg *msg, cw_error *err)
{
    CWI_TRY(cw_msg_labels(msg, slot->labels, s->labels, err));
    for (uint64_t i = 0; slot->label_map && i < msg->samples; i++)
        s->labels[i] = slot->label_map[s->labels[i]];
    return CW_OK;
}

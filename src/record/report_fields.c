/* report_fields.c - what an epoch's report holds: the one table behind its JSON, and behind reading it again. */
#include <math.h>

#include "record/report.h"

typedef enum field_type { FIELD_INT, FIELD_U64, FIELD_REAL, FIELD_PRECISION, FIELD_TRAFFIC } field_type;

typedef struct field {
    const char *name;
    field_type type;
    size_t offset;
    int add;     /* to an integer, for people: epochs count from 1 */
    bool tested; /* null where nothing was evaluated */
} field;

#define OF_EPOCH(member)   offsetof(cw_epoch_report, member)
#define OF_TRAFFIC(member) offsetof(cw_traffic, member)

/* In the order in which they are written. */
static const field epoch_fields[] = {
    {"epoch", FIELD_INT, OF_EPOCH(epoch), 1, false},
    {"train_loss", FIELD_REAL, OF_EPOCH(train_loss), 0, false},
    {"train_accuracy", FIELD_REAL, OF_EPOCH(train_accuracy), 0, false},
    {"test_loss", FIELD_REAL, OF_EPOCH(test_loss), 0, true},
    {"test_accuracy", FIELD_REAL, OF_EPOCH(test_accuracy), 0, true},
    {"lr", FIELD_REAL, OF_EPOCH(lr), 0, false},
    {"seconds", FIELD_REAL, OF_EPOCH(seconds), 0, false},
    {"train_seconds", FIELD_REAL, OF_EPOCH(train_seconds), 0, false},
    {"train_samples", FIELD_U64, OF_EPOCH(train_samples), 0, false},
    {"test_samples", FIELD_U64, OF_EPOCH(test_samples), 0, false},
    {"clients", FIELD_INT, OF_EPOCH(clients), 0, false},
    {"precision", FIELD_PRECISION, OF_EPOCH(precision), 0, false},
    {"uplink", FIELD_TRAFFIC, OF_EPOCH(up), 0, false},
    {"downlink", FIELD_TRAFFIC, OF_EPOCH(down), 0, false},
};

static const field traffic_fields[] = {
    {"socket_bytes", FIELD_U64, OF_TRAFFIC(socket), 0, false},
    {"payload_bytes", FIELD_U64, OF_TRAFFIC(payload), 0, false},
    {"raw_bytes", FIELD_U64, OF_TRAFFIC(raw), 0, false},
    {"eval_payload_bytes", FIELD_U64, OF_TRAFFIC(eval_payload), 0, false},
    {"eval_raw_bytes", FIELD_U64, OF_TRAFFIC(eval_raw), 0, false},
    {"weights_bytes", FIELD_U64, OF_TRAFFIC(weights), 0, false},
};

/* JSON has no infinity; one in a test's loss must not cost the whole line. */
static json_t *number_json(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

static json_t *field_json(const field *f, const void *record, bool tested)
{
    const void *at = (const char *)record + f->offset;
    if (f->tested && !tested)
        return json_null();
    switch (f->type) {
    case FIELD_INT:
        return json_integer(*(const int *)at + f->add);
    case FIELD_U64:
        return json_integer((json_int_t) * (const uint64_t *)at);
    case FIELD_REAL:
        return number_json(*(const double *)at);
    case FIELD_PRECISION:
        return json_string(cw_precision_name(*(const cw_precision *)at));
    case FIELD_TRAFFIC:
        return cwi_report_traffic_json(at);
    }
    return NULL;
}

static json_t *record_json(const field *fields, size_t count, const void *record, bool tested)
{
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++)
        json_object_set_new(object, fields[i].name, field_json(&fields[i], record, tested));
    return object;
}

static void restore_record(const field *fields, size_t count, const json_t *object, void *record)
{
    for (size_t i = 0; i < count; i++) {
        const json_t *value = json_object_get(object, fields[i].name);
        void *at = (char *)record + fields[i].offset;
        switch (fields[i].type) {
        case FIELD_INT:
            *(int *)at = (int)json_integer_value(value) - fields[i].add;
            break;
        case FIELD_U64:
            *(uint64_t *)at = (uint64_t)json_integer_value(value);
            break;
        case FIELD_REAL:
            *(double *)at = json_number_value(value);
            break;
        case FIELD_PRECISION:
            if (json_is_string(value)) /* not there in old runs */
                (void)cw_precision_parse(json_string_value(value), at, NULL);
            break;
        case FIELD_TRAFFIC:
            cwi_report_restore_traffic(value, at);
            break;
        }
    }
}

json_t *cwi_report_traffic_json(const cw_traffic *t)
{
    return record_json(traffic_fields, CWI_COUNT(traffic_fields), t, true);
}

void cwi_report_restore_traffic(const json_t *object, cw_traffic *t)
{
    restore_record(traffic_fields, CWI_COUNT(traffic_fields), object, t);
}

json_t *cwi_report_epoch_json(const cw_epoch_report *e)
{
    return record_json(epoch_fields, CWI_COUNT(epoch_fields), e, e->test_samples > 0);
}

void cwi_report_restore(cwi_report *report, const json_t *last, int epochs_done, double best_accuracy)
{
    cw_epoch_report *r = &report->result.last;
    r->precision = report->result.precision;
    restore_record(epoch_fields, CWI_COUNT(epoch_fields), last, r);
    r->epoch = epochs_done - 1;
    report->result.epochs_done = epochs_done;
    report->result.best_accuracy = best_accuracy;
}

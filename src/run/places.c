/* places.c - see places.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "run/places.h"

enum { FORMAT = 1, OWNER_CHARS = sizeof((cwi_places *)0)->owners[0] - 1 };

static const char file_name[] = "places.json";

static void make_path(cwi_places *p, const char *folder)
{
    *p->path = '\0';
    if (*folder)
        snprintf(p->path, sizeof p->path, "%s/%s", folder, file_name);
}

/* ---- reading ---- */

static bool is_owner(const char *text)
{
    return text && (!*text || strlen(text) == OWNER_CHARS);
}

static bool take_owners(const json_t *root, cwi_places *p)
{
    const json_t *list = json_object_get(root, "places");
    if (json_integer_value(json_object_get(root, "format")) != FORMAT || !json_is_array(list))
        return false;
    for (size_t i = 0; i < p->count && i < json_array_size(list); i++) {
        const char *owner = json_string_value(json_array_get(list, i));
        if (!is_owner(owner))
            return false;
        memcpy(p->owners[i], owner, strlen(owner) + 1);
    }
    return true;
}

static void read_owners(cwi_places *p, const cwi_report *report)
{
    struct stat info;
    if (stat(p->path, &info) != 0)
        return; /* of a run whose clients were told that it is over, or from before there was such a file */
    json_t *root = json_load_file(p->path, 0, NULL);
    if (!take_owners(root, p)) {
        memset(p->owners, 0, p->count * sizeof *p->owners);
        cwi_report_warn(report, "note", "%s does not tell whose the places were: none is held", p->path);
    }
    json_decref(root);
}

cw_status cwi_places_open(const cw_config *config, const cwi_report *report, cwi_places *p, cw_error *err)
{
    *p = (cwi_places){.count = (size_t)config->clients, .written = UINT64_MAX};
    p->owners = cwi_calloc(p->count, sizeof *p->owners);
    if (!p->owners)
        return cwi_fail_memory(err, p->count * sizeof *p->owners);
    make_path(p, config->resume);
    if (*p->path)
        read_owners(p, report);
    make_path(p, config->out);
    return CW_OK;
}

void cwi_places_close(cwi_places *p)
{
    cwi_free(p->owners);
    *p = (cwi_places){.owners = NULL};
}

/* ---- writing ---- */

static cw_status write_owners(cwi_places *p, cwi_session *session, cw_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < p->count; i++)
        json_array_append_new(list, json_string(cwi_session_owner(session, i)));
    json_t *root = json_pack("{s:i,s:o}", "format", FORMAT, "places", list);
    char *text = json_dumps(root, JSON_COMPACT);
    json_decref(root);
    const cw_status status = text ? cw_file_write(p->path, text, strlen(text), err) : cwi_fail_memory(err, p->count);
    free(text);
    return status;
}

void cwi_places_keep(cwi_places *p, cwi_session *session, const cwi_report *report)
{
    cw_error err;
    if (!*p->path || !report->metrics || p->written == session->changes)
        return;
    p->written = session->changes;
    const bool good = write_owners(p, session, &err) == CW_OK;
    if (!good && !p->failed)
        cwi_report_warn(report, "not_saved", "cannot keep whose the places are: %s; a restarted server would not know",
                        err.message);
    p->failed = !good;
}

void cwi_places_forget(cwi_places *p)
{
    if (*p->path)
        (void)unlink(p->path);
    *p->path = '\0';
}

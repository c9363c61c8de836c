/* live_absent.c - in a build without libmicrohttpd. */
#include "live.h"

int live_start(live_page **out, const live_options *o, const cli_log *log, const char *name, json_t *about)
{
    (void)name;
    *out = NULL;
    json_decref(about);
    if (!o->address && !o->token_file)
        return CLI_GO_ON;
    return cli_fail(CLI_FAILURE, "%s: --http: this build has no page: it was made without libmicrohttpd", log->role);
}

void live_event(live_page *page, const cw_event *event)
{
    (void)page, (void)event;
}

void live_stop(live_page **page, bool good)
{
    (void)page, (void)good;
}

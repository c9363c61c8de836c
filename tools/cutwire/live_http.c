/* live_http.c - a live page's server, on libmicrohttpd: one thread that answers, one that wakes those who follow.
 *
 * What is asked often is rendered at most twice a second, so that many who ask cost the run little. Who follows
 * /events is suspended between events: libmicrohttpd asks nothing of it meanwhile. */
#include <errno.h>
#include <microhttpd.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "live_http.h"
#include "live_state.h"
#include "report_page.h"

enum {
    CONNECTIONS = 64,
    FOLLOWERS = 16,
    IDLE_SECONDS = 15,  /* for which a connection may be silent */
    MEMORY = 16 << 10,  /* for one connection: longer request lines and headers are refused */
    ALIVE_SECONDS = 10, /* at the latest a follower hears something */
};
static const double fresh = 0.5, tick = 1.0; /* seconds that a rendering serves; between two events */

typedef struct rendering {
    char *text;
    double made;
} rendering;

/* One connection that follows /events. */
typedef struct follower {
    struct follower *next; /* among the suspended */
    struct MHD_Connection *connection;
    live_page *page;
    char *text;
    size_t size, at;
    uint64_t version; /* that it has seen */
    double told, tried;
    bool over;
} follower;

struct live_page {
    live_state state;
    struct MHD_Daemon *daemon;
    bool needs_token;
    char token[LIVE_TOKEN_MOST + 1];
    rendering json, metrics;
    pthread_t waker;
    pthread_mutex_t mutex; /* of what follows */
    pthread_cond_t wake;
    follower *suspended;
    size_t followers;
    bool ending;
};

/* ---- what is said ---- */

static const char *rendered(live_page *page, rendering *r, char *(*render)(live_state *s))
{
    const double now = live_clock();
    if (!r->text || now - r->made >= fresh) {
        free(r->text);
        r->text = render(&page->state);
        r->made = now;
    }
    return r->text ? r->text : "";
}

static void add_headers(struct MHD_Response *response, const char *type)
{
    static const char *const headers[][2] = {
        {"Cache-Control", "no-store"},
        {"Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
                                    "img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
                                    "frame-ancestors 'none'"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Content-Type-Options", "nosniff"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
    };
    MHD_add_response_header(response, "Content-Type", type);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
}

static enum MHD_Result reply(struct MHD_Connection *c, unsigned status, const char *type, const char *text, size_t size,
                             const char *name, const char *value)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *)(uintptr_t)text, MHD_RESPMEM_MUST_COPY);
    if (!response)
        return MHD_NO;
    add_headers(response, type);
    if (name)
        MHD_add_response_header(response, name, value);
    const enum MHD_Result queued = MHD_queue_response(c, status, response);
    MHD_destroy_response(response);
    return queued;
}

static enum MHD_Result refuse(struct MHD_Connection *c, unsigned status, const char *why, const char *name,
                              const char *value)
{
    return reply(c, status, "text/plain; charset=utf-8", why, strlen(why), name, value);
}

static enum MHD_Result say(struct MHD_Connection *c, const char *type, const char *text)
{
    return reply(c, MHD_HTTP_OK, type, text, strlen(text), NULL, NULL);
}

/* ---- followers ---- */

/* The next event, if there is a new one. */
static void prepare(follower *f, bool ending)
{
    live_state *s = &f->page->state;
    const double now = live_clock();
    pthread_mutex_lock(&s->mutex);
    const uint64_t version = s->version;
    pthread_mutex_unlock(&s->mutex);
    free(f->text);
    f->text = NULL;
    f->size = f->at = 0;
    if (version == f->version && now - f->told < ALIVE_SECONDS)
        return;
    FILE *out = open_memstream(&f->text, &f->size);
    if (!out)
        return;
    if (version == f->version)
        fputs(": still here\n\n", out);
    else if (ending)
        f->page->json.made = 0; /* the last word is not an old one */
    if (version != f->version)
        fprintf(out, "data: %s\n\n", rendered(f->page, &f->page->json, live_state_json));
    fclose(out);
    f->version = version;
    f->told = now;
}

/* Until the next tick, or the end. */
static void suspend(follower *f)
{
    MHD_suspend_connection(f->connection);
    f->next = f->page->suspended;
    f->page->suspended = f;
}

/* False: there is none yet, and it is suspended until the next tick; or it is over, as none will come. */
static bool next_event(follower *f)
{
    pthread_mutex_lock(&f->page->mutex);
    const bool ending = f->page->ending;
    pthread_mutex_unlock(&f->page->mutex);
    if (ending || live_clock() - f->tried >= tick / 2) {
        f->tried = live_clock();
        prepare(f, ending);
        if (f->size)
            return true;
    }
    pthread_mutex_lock(&f->page->mutex);
    f->over = ending;
    if (!f->page->ending)
        suspend(f);
    pthread_mutex_unlock(&f->page->mutex);
    return false;
}

static ssize_t read_events(void *cls, uint64_t at, char *buffer, size_t room)
{
    follower *f = cls;
    (void)at;
    if (f->at == f->size && !next_event(f))
        return f->over ? MHD_CONTENT_READER_END_OF_STREAM : 0;
    const size_t n = f->size - f->at < room ? f->size - f->at : room;
    memcpy(buffer, f->text + f->at, n);
    f->at += n;
    return (ssize_t)n;
}

static void forget_follower(void *cls)
{
    follower *f = cls;
    pthread_mutex_lock(&f->page->mutex);
    for (follower **at = &f->page->suspended; *at; at = &(*at)->next)
        if (*at == f) {
            *at = f->next;
            break;
        }
    f->page->followers--;
    pthread_mutex_unlock(&f->page->mutex);
    free(f->text);
    free(f);
}

static bool take_place(live_page *page)
{
    pthread_mutex_lock(&page->mutex);
    const bool room = page->followers < FOLLOWERS && !page->ending;
    page->followers += room;
    pthread_mutex_unlock(&page->mutex);
    return room;
}

static enum MHD_Result follow(live_page *page, struct MHD_Connection *c)
{
    if (!take_place(page))
        return refuse(c, MHD_HTTP_SERVICE_UNAVAILABLE, "too many pages follow this run: close one\n", "Retry-After",
                      "10");
    follower *f = calloc(1, sizeof *f);
    struct MHD_Response *response = NULL;
    if (f) {
        *f = (follower){.connection = c, .page = page};
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, 64 << 10, read_events, f, forget_follower);
    }
    if (!response) {
        free(f);
        pthread_mutex_lock(&page->mutex);
        page->followers--;
        pthread_mutex_unlock(&page->mutex);
        return MHD_NO;
    }
    add_headers(response, "text/event-stream; charset=utf-8");
    const enum MHD_Result queued = MHD_queue_response(c, MHD_HTTP_OK, response);
    MHD_destroy_response(response);
    return queued;
}

/* ---- requests ---- */

/* With the numbers of now in it. */
static enum MHD_Result send_page(live_page *page, struct MHD_Connection *c)
{
    size_t size;
    char *html = report_page_make(rendered(page, &page->json, live_state_json), &size);
    if (!html)
        return MHD_NO;
    const enum MHD_Result queued = reply(c, MHD_HTTP_OK, "text/html; charset=utf-8", html, size, NULL, NULL);
    free(html);
    return queued;
}

static enum MHD_Result answer(live_page *page, struct MHD_Connection *c, const char *path, bool head)
{
    if (strcmp(path, "/") == 0)
        return send_page(page, c);
    if (strcmp(path, "/api") == 0)
        return say(c, "application/json; charset=utf-8", rendered(page, &page->json, live_state_json));
    if (strcmp(path, "/metrics") == 0)
        return say(c, "text/plain; version=0.0.4; charset=utf-8", rendered(page, &page->metrics, live_state_metrics));
    if (strcmp(path, "/events") == 0)
        return head ? say(c, "text/event-stream; charset=utf-8", "") : follow(page, c);
    return refuse(c, MHD_HTTP_NOT_FOUND, "there are /, /metrics, /api and /events\n", NULL, NULL);
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *c, const char *path, const char *method,
                                  const char *version, const char *upload, size_t *upload_size, void **state)
{
    static int seen;
    live_page *page = cls;
    const bool head = strcmp(method, "HEAD") == 0;
    (void)version, (void)upload;
    if (!head && strcmp(method, "GET") != 0) {
        *upload_size = 0;
        return refuse(c, MHD_HTTP_METHOD_NOT_ALLOWED, "there is nothing to change here: GET it\n", "Allow",
                      "GET, HEAD");
    }
    if (*state != &seen) { /* headers are there; an answer is wanted at the second call */
        *state = &seen;
        return MHD_YES;
    }
    const char *shown = MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Authorization");
    if (page->needs_token && !live_token_shown(shown, page->token))
        return refuse(c, MHD_HTTP_UNAUTHORIZED, "show the token: as a bearer token, or as the password of any user\n",
                      "WWW-Authenticate", "Basic realm=\"cutwire\", charset=\"UTF-8\"");
    if (!page->needs_token && !live_host_is_local(MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Host")))
        return refuse(c, MHD_HTTP_FORBIDDEN, "ask for this page by the name localhost, or run it with --http-token\n",
                      NULL, NULL);
    return answer(page, c, path, head);
}

/* ---- life ---- */

static void wake_all(live_page *page)
{
    for (follower *f = page->suspended; f; f = f->next)
        MHD_resume_connection(f->connection);
    page->suspended = NULL;
}

static void *wake_followers(void *arg)
{
    live_page *page = arg;
    pthread_mutex_lock(&page->mutex);
    while (!page->ending) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_sec += (time_t)tick;
        pthread_cond_timedwait(&page->wake, &page->mutex, &until);
        wake_all(page);
    }
    pthread_mutex_unlock(&page->mutex);
    return NULL;
}

/* Signals are for the thread of the run, whose waits they end. */
static bool start_threads(live_page *page, const live_address *address)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME |
                           (address->socket.ss_family == AF_INET6 ? MHD_USE_IPv6 : 0);
    page->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, page, MHD_OPTION_SOCK_ADDR,
                                    (const struct sockaddr *)&address->socket, MHD_OPTION_CONNECTION_LIMIT,
                                    (unsigned)CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_SECONDS,
                                    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY, MHD_OPTION_END);
    bool good = page->daemon != NULL;
    if (good && pthread_create(&page->waker, NULL, wake_followers, page) != 0) {
        MHD_stop_daemon(page->daemon);
        good = false;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return good;
}

static void close_page(live_page *page)
{
    live_state_close(&page->state);
    pthread_mutex_destroy(&page->mutex);
    pthread_cond_destroy(&page->wake);
    free(page->json.text);
    free(page->metrics.text);
    free(page);
}

static int open_page(live_page *page, const live_options *o, const cli_log *log)
{
    live_address address;
    int code = live_address_parse(log->role, o->address, &address);
    if (code == CLI_GO_ON && o->token_file) {
        page->needs_token = true;
        code = live_token_read(log->role, o->token_file, page->token);
    }
    if (code != CLI_GO_ON)
        return code;
    if (!address.loopback && !page->needs_token)
        return cli_fail(CLI_USAGE,
                        "%s: --http %s: that address is seen from other machines: give --http-token FILE, or "
                        "take 127.0.0.1",
                        log->role, o->address);
    errno = 0;
    if (!start_threads(page, &address))
        return cli_fail(CLI_FAILURE, "%s: --http %s: %s: take another port, or port *", log->role, o->address,
                        errno ? strerror(errno) : "cannot listen there");
    const union MHD_DaemonInfo *bound = MHD_get_daemon_info(page->daemon, MHD_DAEMON_INFO_BIND_PORT);
    cli_log_say(log, CW_LOG_INFO, "page", "the page is at http://%.*s:%u/%s",
                (int)(strrchr(o->address, ':') - o->address), o->address, bound ? (unsigned)bound->port : 0,
                page->needs_token ? ", for who has the token" : "");
    return CLI_GO_ON;
}

int live_start(live_page **out, const live_options *o, const cli_log *log, const char *name, json_t *about)
{
    *out = NULL;
    if (!o->address) {
        json_decref(about);
        return o->token_file ? cli_fail(CLI_USAGE, "%s: --http-token goes with --http HOST:PORT", log->role)
                             : CLI_GO_ON;
    }
    live_page *page = calloc(1, sizeof *page);
    if (!page) {
        json_decref(about);
        return cli_fail(CLI_FAILURE, "%s: --http: out of memory", log->role);
    }
    live_state_open(&page->state, log->role, name, about);
    pthread_mutex_init(&page->mutex, NULL);
    pthread_cond_init(&page->wake, NULL);
    const int code = open_page(page, o, log);
    if (code == CLI_GO_ON)
        *out = page;
    else
        close_page(page);
    return code;
}

void live_event(live_page *page, const cw_event *event)
{
    if (page)
        live_state_take(&page->state, event);
}

void live_stop(live_page **out, bool good)
{
    live_page *page = out ? *out : NULL;
    if (!page)
        return;
    live_state_end(&page->state, good);
    pthread_mutex_lock(&page->mutex);
    page->ending = true;
    pthread_cond_signal(&page->wake);
    pthread_mutex_unlock(&page->mutex);
    pthread_join(page->waker, NULL);
    pthread_mutex_lock(&page->mutex);
    wake_all(page);
    pthread_mutex_unlock(&page->mutex);
    const struct timespec moment = {.tv_nsec = 100000000};
    nanosleep(&moment, NULL); /* the last word goes out */
    MHD_stop_daemon(page->daemon);
    close_page(page);
    *out = NULL;
}

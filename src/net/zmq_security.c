/* zmq_security.c - see zmq_security.h. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <zmq.h>

#include "net/zmq_security.h"

enum { KEY_BYTES = 32, REQUEST_PARTS = 7, PART_MAX = 256, REFUSALS_KEPT = 8 };

struct cwi_doorkeeper {
    pthread_t thread;
    void *socket;
    pthread_mutex_t mutex; /* of what follows */
    size_t count;
    uint8_t (*keys)[KEY_BYTES];
    cwi_refusal refusals[REFUSALS_KEPT];
    size_t refused;
    uint64_t not_kept;
};

static bool is_valid(const cw_key *key)
{
    uint8_t binary[KEY_BYTES];
    bool valid = memchr(key->text, 0, sizeof key->text) == key->text + 40 && zmq_z85_decode(binary, key->text);
    cwi_wipe(binary, sizeof binary);
    return valid;
}

cw_status cwi_security_check(const cw_net_options *o, bool listen, cw_error *err)
{
    if (!o->secret_key) {
        if (o->server_key || o->client_keys)
            return cwi_fail(err, CW_ERR_INVALID, "keys of others are given, but this end's secret key is missing");
        return CW_OK;
    }
    if (listen && (!o->client_keys || !o->client_key_count))
        return cwi_fail(err, CW_ERR_INVALID, "the server has a key but knows none of a client: nobody could join");
    if (!listen && !o->server_key)
        return cwi_fail(err, CW_ERR_INVALID, "the client has a key but does not know the server's public key");
    bool valid = is_valid(o->secret_key) && (listen || is_valid(o->server_key));
    for (size_t i = 0; listen && i < o->client_key_count; i++)
        valid = valid && is_valid(&o->client_keys[i]);
    return valid ? CW_OK : cwi_fail(err, CW_ERR_INVALID, "a key is not 40 characters of Z85");
}

cw_status cwi_security_apply(void *socket, const cw_net_options *o, bool listen, cw_error *err)
{
    if (!o->secret_key)
        return CW_OK;
    const char *secret = o->secret_key->text;
    char own[sizeof(cw_key)];
    int yes = 1;
    bool ok =
        zmq_curve_public(own, secret) == 0 && zmq_setsockopt(socket, ZMQ_CURVE_SECRETKEY, secret, sizeof(cw_key)) == 0;
    if (listen)
        ok = ok && zmq_setsockopt(socket, ZMQ_CURVE_SERVER, &yes, sizeof yes) == 0 &&
             zmq_setsockopt(socket, ZMQ_ZAP_DOMAIN, "cutwire", 7) == 0;
    else
        ok = ok && zmq_setsockopt(socket, ZMQ_CURVE_PUBLICKEY, own, sizeof own) == 0 &&
             zmq_setsockopt(socket, ZMQ_CURVE_SERVERKEY, o->server_key->text, sizeof(cw_key)) == 0;
    return ok ? CW_OK : cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses the keys: %s", zmq_strerror(errno));
}

/* ---- the doorkeeper ---- */

typedef struct request {
    char part[REQUEST_PARTS][PART_MAX]; /* version, id, domain, address, routing id, mechanism, key */
    size_t size[REQUEST_PARTS];
} request;

/* False when the context is being terminated. More parts than a request has are counted, not kept. */
static bool recv_request(void *socket, request *r, size_t *parts)
{
    int more = 1;
    *parts = 0;
    while (more) {
        char rest[PART_MAX];
        size_t size = sizeof more;
        int got = zmq_recv(socket, *parts < REQUEST_PARTS ? r->part[*parts] : rest, PART_MAX, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || zmq_getsockopt(socket, ZMQ_RCVMORE, &more, &size) < 0)
            return false;
        if (*parts < REQUEST_PARTS)
            r->size[*parts] = CWI_MIN((size_t)got, (size_t)PART_MAX);
        ++*parts;
    }
    return true;
}

static bool is_let_in(cwi_doorkeeper *k, const request *r, size_t parts)
{
    bool found = false;
    if (parts != REQUEST_PARTS || r->size[5] != 5 || memcmp(r->part[5], "CURVE", 5) || r->size[6] != KEY_BYTES)
        return false;
    pthread_mutex_lock(&k->mutex);
    for (size_t i = 0; !found && i < k->count; i++)
        found = !memcmp(k->keys[i], r->part[6], KEY_BYTES);
    pthread_mutex_unlock(&k->mutex);
    return found;
}

/* A known key names its client from now on: as the user of each of its messages. */
static void answer(void *socket, const request *r, size_t parts, bool yes)
{
    char user[sizeof(cw_key)] = "";
    if (yes)
        zmq_z85_encode(user, (const uint8_t *)r->part[6], KEY_BYTES);
    zmq_send(socket, "1.0", 3, ZMQ_SNDMORE);
    zmq_send(socket, r->part[1], parts > 1 ? r->size[1] : 0, ZMQ_SNDMORE);
    zmq_send(socket, yes ? "200" : "400", 3, ZMQ_SNDMORE);
    zmq_send(socket, yes ? "OK" : "unknown key", yes ? 2 : 11, ZMQ_SNDMORE);
    zmq_send(socket, user, strlen(user), ZMQ_SNDMORE);
    zmq_send(socket, "", 0, 0);
}

static void note_refusal(cwi_doorkeeper *k, const request *r, size_t parts)
{
    pthread_mutex_lock(&k->mutex);
    if (k->refused < REFUSALS_KEPT) {
        cwi_refusal *refusal = &k->refusals[k->refused++];
        *refusal = (cwi_refusal){.more = 0};
        if (parts > 3)
            memcpy(refusal->address, r->part[3], CWI_MIN(r->size[3], sizeof refusal->address - 1));
        if (parts == REQUEST_PARTS && r->size[6] == KEY_BYTES)
            zmq_z85_encode(refusal->key, (const uint8_t *)r->part[6], KEY_BYTES);
    } else {
        k->not_kept++;
    }
    pthread_mutex_unlock(&k->mutex);
}

bool cwi_doorkeeper_refused(cwi_doorkeeper *k, cwi_refusal *refusal)
{
    if (!k)
        return false;
    pthread_mutex_lock(&k->mutex);
    const bool any = k->refused > 0;
    if (any) {
        *refusal = k->refusals[0];
        memmove(k->refusals, k->refusals + 1, --k->refused * sizeof *k->refusals);
        if (!k->refused) {
            refusal->more = k->not_kept;
            k->not_kept = 0;
        }
    }
    pthread_mutex_unlock(&k->mutex);
    return any;
}

static void *keep_door(void *arg)
{
    cwi_doorkeeper *k = arg;
    request r;
    size_t parts;
    while (recv_request(k->socket, &r, &parts)) {
        const bool yes = is_let_in(k, &r, parts);
        if (!yes)
            note_refusal(k, &r, parts);
        answer(k->socket, &r, parts, yes);
    }
    int none = 0;
    zmq_setsockopt(k->socket, ZMQ_LINGER, &none, sizeof none);
    zmq_close(k->socket);
    return NULL;
}

static cw_status start_thread(cwi_doorkeeper *k, void *context, cw_error *err)
{
    k->socket = zmq_socket(context, ZMQ_REP);
    if (!k->socket || zmq_bind(k->socket, "inproc://zeromq.zap.01") < 0)
        return cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses a socket for authentication: %s", zmq_strerror(errno));
    int failure = pthread_create(&k->thread, NULL, keep_door, k);
    return failure ? cwi_fail(err, CW_ERR_IO, "cannot start a thread: %s", strerror(failure)) : CW_OK;
}

static void free_doorkeeper(cwi_doorkeeper *k)
{
    pthread_mutex_destroy(&k->mutex);
    cwi_free(k->keys);
    cwi_free(k);
}

cw_status cwi_doorkeeper_set_keys(cwi_doorkeeper *k, const cw_key *keys, size_t count, cw_error *err)
{
    bool valid = k && keys && count;
    for (size_t i = 0; valid && i < count; i++)
        valid = is_valid(&keys[i]);
    if (!valid)
        return cwi_fail(err, CW_ERR_INVALID, "%s",
                        !k                ? "this server has no list of keys: it is not encrypted"
                        : !keys || !count ? "no keys: nobody could join"
                                          : "a key is not 40 characters of Z85");
    uint8_t(*binary)[KEY_BYTES] = cwi_alloc(count, sizeof *binary);
    if (!binary)
        return cwi_fail_memory(err, count * sizeof *binary);
    for (size_t i = 0; i < count; i++)
        zmq_z85_decode(binary[i], keys[i].text);
    pthread_mutex_lock(&k->mutex);
    void *old = k->keys;
    k->keys = binary;
    k->count = count;
    pthread_mutex_unlock(&k->mutex);
    cwi_free(old);
    return CW_OK;
}

cw_status cwi_doorkeeper_start(void *context, const cw_net_options *o, cwi_doorkeeper **out, cw_error *err)
{
    *out = NULL;
    if (!o->secret_key)
        return CW_OK;
    cwi_doorkeeper *k = cwi_calloc(1, sizeof *k);
    if (!k)
        return cwi_fail_memory(err, sizeof *k);
    pthread_mutex_init(&k->mutex, NULL);
    cw_status status = cwi_doorkeeper_set_keys(k, o->client_keys, o->client_key_count, err);
    if (status == CW_OK)
        status = start_thread(k, context, err);
    if (status != CW_OK) {
        if (k->socket)
            zmq_close(k->socket);
        free_doorkeeper(k);
        return status;
    }
    *out = k;
    return CW_OK;
}

void cwi_doorkeeper_join(cwi_doorkeeper *keeper)
{
    if (!keeper)
        return;
    pthread_join(keeper->thread, NULL);
    free_doorkeeper(keeper);
}

/* many_peers.c - what many clients cost a server: peers that speak the protocol and compute nothing.
 *
 *     many_peers ENDPOINT PID PEERS STEPS SHAPE SPEC [MILLISECONDS]
 *
 * ENDPOINT and PID are of a `cutwire server --clients PEERS --batch 1` on this machine, SHAPE is that of one sample at
 * its cut (16x14x14), SPEC its --uplink and --update; each peer asks whether the server is there every MILLISECONDS.
 * The peers join; the last one waits until the server's memory was read. Then they take STEPS steps. Prints, one `name
 * value` a line: bytes of the server's memory for each idle peer, and the server's processor microseconds for each peer
 * that joined, and for each peer and step; of the latter those of the thread that trains, too.
 *
 * bench/many_peers.py starts the server, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

#include <cutwire/cutwire.h>

/* Of docs/formats/protocol.md, section 1: a chunk's header, its data at most, a RESUME. */
enum { HEADER = 8, CHUNK = 32 << 10, CONTROL = 32, RESUME = 1, ACK = 4, FIRST_BIT = 31, IDLE_SECONDS = 3 };

/* Beside other programs an answer may take long: a connection that is given up for that would never come back here, as
 * these peers do not say RESUME again. So they wait, and give up as a whole. */
enum { GONE_MS = 600000, PATIENCE_SECONDS = 120, IO_THREADS = 4 };

typedef struct peer {
    void *socket;
    uint32_t index, sent, taken, owed;
    uint64_t session, server;
    uint8_t *frame; /* on its way in */
    size_t size, have;
} peer;

typedef struct crowd {
    void *context;
    peer *peers;
    zmq_pollitem_t *items;
    size_t count, ready, done, began;
    uint32_t steps;
    int heartbeat;                  /* milliseconds */
    time_t heard;                   /* when anything last came */
    uint8_t *activation, *gradient; /* payloads, the same for all */
    size_t activation_size, gradient_size;
    cw_codec *codec;
    uint8_t *out;
    size_t capacity;
} crowd;

static _Noreturn void fail(const char *what, const char *why)
{
    fprintf(stderr, "many_peers: %s: %s\n", what, why);
    exit(1);
}

static void put(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        at[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t get(const uint8_t *at, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;)
        value = value << 8 | at[i];
    return value;
}

/* ---- frames ---- */

static void send_message(const peer *p, const void *bytes, size_t size)
{
    if (zmq_send(p->socket, bytes, size, 0) < 0)
        fail("sending", zmq_strerror(zmq_errno()));
}

static void send_control(peer *p, uint64_t kind)
{
    uint8_t chunk[CONTROL] = {0};
    put(chunk + 4, CONTROL - HEADER, 4);
    put(chunk + 8, kind, 8);
    put(chunk + 16, p->server, 8);
    put(chunk + 24, p->taken + 1, 4);
    p->owed = 0;
    send_message(p, chunk, sizeof chunk);
}

static void send_frame(peer *p, const uint8_t *bytes, size_t size)
{
    uint8_t chunk[HEADER + CHUNK];
    p->sent++;
    for (size_t done = 0; done < size;) {
        const size_t length = size - done < CHUNK ? size - done : CHUNK;
        put(chunk, p->sent | (uint32_t)!done << FIRST_BIT, 4);
        put(chunk + 4, size - done, 4);
        memcpy(chunk + HEADER, bytes + done, length);
        send_message(p, chunk, HEADER + length);
        done += length;
    }
}

static void say(crowd *c, peer *p, cw_msg *msg)
{
    size_t size;
    cw_error err;
    msg->client = p->index;
    msg->session = p->session;
    if (cw_msg_encode(msg, c->out, c->capacity, &size, &err) != CW_OK)
        fail(cw_msg_name(msg->type), err.message);
    send_frame(p, c->out, size);
}

/* ---- the conversation ---- */

static void encode(const crowd *c, const cw_shape *shape, uint8_t **payload, size_t *size)
{
    cw_tensor x;
    size_t count;
    cw_error err;
    if (cw_tensor_alloc(&x, CW_F32, shape) != CW_OK || cw_shape_count(shape, &count) != CW_OK)
        fail("a tensor", "out of memory");
    for (size_t i = 0; i < count; i++)
        ((float *)x.data)[i] = (float)(i * 7919 % 101) * 1e-4f;
    const size_t bound = cw_codec_bound(c->codec, &x);
    *payload = malloc(bound);
    if (!*payload || cw_encode(c->codec, &x, NULL, *payload, bound, size, &err) != CW_OK)
        fail("encoding", *payload ? err.message : "out of memory");
    cw_tensor_free(&x);
}

static bool is_weight(const char *name)
{
    return strncmp(name, "optimizer.", 10) != 0 && !strstr(name, "running_");
}

/* As many numbers as STATE has weights. */
static void take_state(crowd *c, const cw_msg *state)
{
    cw_tensor_set set;
    cw_error err;
    size_t all = 0, count;
    if (c->gradient)
        return;
    if (cw_safetensors_decode(state->blob, state->blob_size, &set, &err) != CW_OK)
        fail("STATE", err.message);
    for (size_t i = 0; i < set.count; i++)
        if (is_weight(set.items[i].name) && cw_shape_count(&set.items[i].tensor.shape, &count) == CW_OK)
            all += count;
    cw_tensor_set_free(&set);
    const cw_shape shape = cw_shape_of(3, (int64_t[]){1, 1, (int64_t)all});
    encode(c, &shape, &c->gradient, &c->gradient_size);
    c->capacity += c->gradient_size;
    c->out = realloc(c->out, c->capacity);
}

static void send_batch(crowd *c, peer *p, uint32_t step)
{
    const int32_t label = (int32_t)(p->index % 10);
    cw_msg msg = {.type = CW_MSG_ACTIVATION,
                  .phase = CW_PHASE_TRAIN,
                  .step = step,
                  .samples = 1,
                  .labels = &label,
                  .blob = c->activation,
                  .blob_size = c->activation_size};
    say(c, p, &msg);
}

static void take(crowd *c, peer *p, const cw_msg *msg)
{
    cw_msg answer = {.type = CW_MSG_READY, .fingerprint = msg->fingerprint, .samples = c->steps + 1};
    switch (msg->type) {
    case CW_MSG_WELCOME:
        p->index = msg->client;
        p->session = msg->session;
        say(c, p, &answer);
        c->ready++;
        break;
    case CW_MSG_STATE:
        take_state(c, msg);
        break;
    case CW_MSG_BEGIN:
        c->began++;
        send_batch(c, p, 0);
        break;
    case CW_MSG_GRADIENT:
        answer = (cw_msg){.type = CW_MSG_CLIENT_GRAD,
                          .step = msg->step,
                          .samples = 1,
                          .blob = c->gradient,
                          .blob_size = c->gradient_size};
        say(c, p, &answer);
        break;
    case CW_MSG_UPDATE:
        if (msg->step + 1 < c->steps)
            send_batch(c, p, msg->step + 1);
        else
            c->done++;
        break;
    default:
        fprintf(stderr, "%.*s\n", (int)msg->blob_size, msg->blob ? (const char *)msg->blob : "");
        fail("unexpected", cw_msg_name(msg->type));
    }
}

static void take_frame(crowd *c, peer *p)
{
    cw_msg msg;
    cw_error err;
    if (cw_msg_decode(p->frame, p->size, &msg, &err) != CW_OK)
        fail("a frame", err.message);
    take(c, p, &msg);
    free(p->frame);
    p->frame = NULL;
    p->taken++;
    p->owed += 4096 + (uint32_t)p->size; /* real clients answer 16 frames, or 64 KiB */
    if (p->owed >= 64 << 10)
        send_control(p, ACK);
}

static void take_chunk(crowd *c, peer *p, const uint8_t *chunk, size_t size)
{
    const uint32_t head = (uint32_t)get(chunk, 4);
    if (!head) {
        p->server = size == CONTROL ? get(chunk + 16, 8) : p->server;
        return;
    }
    if (head >> FIRST_BIT) {
        p->size = (size_t)get(chunk + 4, 4);
        p->have = 0;
        p->frame = malloc(p->size + 16);
    }
    memcpy(p->frame + p->have, chunk + HEADER, size - HEADER);
    p->have += size - HEADER;
    if (p->have == p->size)
        take_frame(c, p);
}

/* All that has come, for at most so long. */
static void listen_to_all(crowd *c, size_t count, long ms)
{
    uint8_t chunk[HEADER + CHUNK];
    if (zmq_poll(c->items, (int)count, ms) < 0)
        fail("waiting", zmq_strerror(zmq_errno()));
    const time_t now = time(NULL);
    for (size_t i = 0; i < count; i++) {
        int size;
        while ((size = zmq_recv(c->peers[i].socket, chunk, sizeof chunk, ZMQ_DONTWAIT)) >= HEADER) {
            take_chunk(c, &c->peers[i], chunk, (size_t)size);
            c->heard = now;
        }
    }
    if (now - c->heard > PATIENCE_SECONDS)
        fail("waiting", "the server has said nothing for two minutes");
}

static void join(crowd *c, size_t i, const char *endpoint)
{
    uint8_t id[17] = {'c'};
    const int gone = GONE_MS, none = 0;
    peer *p = &c->peers[i];
    *p = (peer){.index = UINT32_MAX, .socket = zmq_socket(c->context, ZMQ_DEALER)};
    put(id + 1, i + 1, 8);
    put(id + 9, (uint64_t)getpid(), 8);
    if (!p->socket || zmq_setsockopt(p->socket, ZMQ_ROUTING_ID, id, sizeof id) < 0 ||
        zmq_setsockopt(p->socket, ZMQ_HEARTBEAT_IVL, &c->heartbeat, sizeof c->heartbeat) < 0 ||
        zmq_setsockopt(p->socket, ZMQ_HEARTBEAT_TIMEOUT, &gone, sizeof gone) < 0 ||
        zmq_setsockopt(p->socket, ZMQ_LINGER, &none, sizeof none) < 0 || zmq_connect(p->socket, endpoint) < 0)
        fail("connecting", zmq_strerror(zmq_errno()));
    c->items[i] = (zmq_pollitem_t){.socket = p->socket, .events = ZMQ_POLLIN};
    send_control(p, RESUME);
    cw_msg hello = {
        .type = CW_MSG_HELLO, .version_min = CW_WIRE_VERSION_MIN, .version_max = CW_WIRE_VERSION_MAX, .token = i + 1};
    say(c, p, &hello);
}

/* ---- what the server takes ---- */

static double stat_seconds(const char *path)
{
    char text[1024];
    unsigned long user, system;
    FILE *f = fopen(path, "r");
    const char *rest = f && fgets(text, sizeof text, f) ? strrchr(text, ')') : NULL;
    if (!rest || sscanf(rest, ") %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2)
        fail(path, "the server is not there");
    fclose(f);
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static double cpu_seconds(const char *pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/stat", pid);
    return stat_seconds(path);
}

/* Of the thread that trains. */
static double trainer_seconds(const char *pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%s/task/%s/stat", pid, pid);
    return stat_seconds(path);
}

static double resident_bytes(const char *pid)
{
    char path[64];
    long pages;
    snprintf(path, sizeof path, "/proc/%s/statm", pid);
    FILE *f = fopen(path, "r");
    if (!f || fscanf(f, "%*d %ld", &pages) != 1)
        fail(path, "the server is not there");
    fclose(f);
    return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

static void rest(crowd *c, size_t count)
{
    const time_t end = time(NULL) + IDLE_SECONDS;
    while (time(NULL) < end)
        listen_to_all(c, count, 100);
}

static void measure(crowd *c, const char *endpoint, const char *pid)
{
    enum { AT_ONCE = 50 };
    const double n = (double)c->count - 2; /* the first finds out whether the server is ready, the last begins */
    join(c, 0, endpoint);
    while (!c->ready)
        listen_to_all(c, 1, 100);
    const double empty = resident_bytes(pid);
    double before = cpu_seconds(pid);
    for (size_t i = 1; i + 1 < c->count; i++) {
        join(c, i, endpoint);
        while (c->ready + AT_ONCE <= i)
            listen_to_all(c, i + 1, 100);
    }
    while (c->ready + 1 < c->count)
        listen_to_all(c, c->count - 1, 100);
    rest(c, c->count - 1);
    printf("join_us %.1f\n", 1e6 * (cpu_seconds(pid) - before) / n);
    printf("idle_bytes %.0f\n", (resident_bytes(pid) - empty) / n);
    before = cpu_seconds(pid);
    rest(c, c->count - 1);
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("idle_cpu_percent %.2f\n", 100 * (cpu_seconds(pid) - before) / IDLE_SECONDS);
    join(c, c->count - 1, endpoint);
    while (c->began < c->count)
        listen_to_all(c, c->count, 100);
    const double each = 1e6 / (double)c->count / (double)c->steps, trainer = trainer_seconds(pid);
    before = cpu_seconds(pid);
    while (c->done < c->count)
        listen_to_all(c, c->count, 100);
    printf("step_us %.1f\n", each * (cpu_seconds(pid) - before));
    printf("trainer_us %.1f\n", each * (trainer_seconds(pid) - trainer));
    printf("resident_bytes %.0f\n", resident_bytes(pid));
}

static cw_shape shape_of_sample(char *text)
{
    cw_shape shape = {.ndim = 1, .dim = {1}};
    for (char *word = strtok(text, "x"); word && shape.ndim < 5; word = strtok(NULL, "x"))
        shape.dim[shape.ndim++] = atol(word);
    return shape;
}

int main(int argc, char **argv)
{
    cw_error err;
    if (argc != 7 && argc != 8)
        fail("usage", "many_peers ENDPOINT PID PEERS STEPS SHAPE SPEC [MILLISECONDS]");
    crowd c = {.count = (size_t)atol(argv[3]), .steps = (uint32_t)atol(argv[4]), .context = zmq_ctx_new()};
    if (c.count < 3 || !c.steps)
        fail("usage", "three peers and one step, at least");
    zmq_ctx_set(c.context, ZMQ_MAX_SOCKETS, (int)c.count + 8);
    zmq_ctx_set(c.context, ZMQ_IO_THREADS, IO_THREADS);
    c.heard = time(NULL);
    c.heartbeat = argc > 7 ? atoi(argv[7]) : 2000;
    if (cw_codec_create(argv[6], &c.codec, &err) != CW_OK)
        fail("SPEC", err.message);
    const cw_shape smashed = shape_of_sample(argv[5]);
    encode(&c, &smashed, &c.activation, &c.activation_size);
    c.capacity = c.activation_size + 4096;
    c.out = malloc(c.capacity);
    c.peers = calloc(c.count, sizeof *c.peers);
    c.items = calloc(c.count, sizeof *c.items);
    if (!c.out || !c.peers || !c.items)
        fail("memory", "there is none");
    measure(&c, argv[1], argv[2]);
    exit(0); /* the operating system closes thousands of sockets faster */
}

/* zmq_monitor.c - see zmq_monitor.h. */
#include <errno.h>
#include <string.h>
#include <zmq.h>

#include "net/zmq_monitor.h"

static const char MONITOR[] = "inproc://monitor";

/* So many failures, and never a success, take some seconds and mean a wrong address or key. A server with another
 * key just hangs up; but so does a port forwarder whose server is not there yet, which is why without keys only
 * nonsense counts as a failure. */
enum { HOPELESS_FAILURES = 40 };

cw_status cwi_monitor_start(cwi_monitor *m, void *context, void *socket, bool encrypted, cw_error *err)
{
    const int events = ZMQ_EVENT_HANDSHAKE_SUCCEEDED | ZMQ_EVENT_HANDSHAKE_FAILED_AUTH |
                       ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL | ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL |
                       ZMQ_EVENT_DISCONNECTED;
    int none = 0;
    m->encrypted = encrypted;
    bool ok = zmq_socket_monitor(socket, MONITOR, events) == 0;
    m->socket = ok ? zmq_socket(context, ZMQ_PAIR) : NULL;
    /* Without a limit to its queue, or ZeroMQ's thread would wait for a client that does not look. */
    ok = m->socket && zmq_setsockopt(m->socket, ZMQ_LINGER, &none, sizeof none) == 0 &&
         zmq_setsockopt(m->socket, ZMQ_RCVHWM, &none, sizeof none) == 0 && zmq_connect(m->socket, MONITOR) == 0;
    return ok ? CW_OK : cwi_fail(err, CW_ERR_BACKEND, "ZeroMQ refuses to be monitored: %s", zmq_strerror(errno));
}

void cwi_monitor_stop(cwi_monitor *m, void *socket)
{
    if (!m->socket)
        return;
    zmq_socket_monitor(socket, NULL, 0);
    zmq_close(m->socket);
    m->socket = NULL;
}

/* An event is two parts: number and value, and the endpoint. False: there is none. */
static bool next_event(cwi_monitor *m, unsigned *event, uint32_t *value)
{
    uint8_t head[6] = {0};
    uint16_t number;
    int got;
    do
        got = zmq_recv(m->socket, head, sizeof head, ZMQ_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return false;
    memcpy(&number, head, 2); /* in the machine's own byte order */
    memcpy(value, head + 2, 4);
    *event = number;
    char endpoint[8];
    while (zmq_recv(m->socket, endpoint, sizeof endpoint, ZMQ_DONTWAIT) < 0 && errno == EINTR)
        ;
    return true;
}

static void take_event(cwi_monitor *m, unsigned event, uint32_t value)
{
    if (event == ZMQ_EVENT_HANDSHAKE_SUCCEEDED) {
        m->succeeded = m->up = true;
        m->connected++;
        return;
    }
    if (event == ZMQ_EVENT_DISCONNECTED) {
        m->up = false;
        return;
    }
    m->failures += m->encrypted || event != ZMQ_EVENT_HANDSHAKE_FAILED_NO_DETAIL;
    if (event == ZMQ_EVENT_HANDSHAKE_FAILED_AUTH)
        m->hopeless = "the server does not let us in: our public key is not on its list";
    else if (event == ZMQ_EVENT_HANDSHAKE_FAILED_PROTOCOL && value == ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
        m->hopeless = "one end is encrypted and the other is not: give both keys, or none";
    else if (!m->succeeded && m->failures >= HOPELESS_FAILURES)
        m->hopeless = "something answers there, but does not understand us: it is no cutwire server, or its public key "
                      "is another one";
}

void cwi_monitor_look(cwi_monitor *m)
{
    unsigned event;
    uint32_t value;
    while (next_event(m, &event, &value))
        take_event(m, event, value);
}

cw_status cwi_monitor_check(cwi_monitor *m, const char *endpoint, cw_error *err)
{
    cwi_monitor_look(m);
    return m->hopeless ? cwi_fail(err, CW_ERR_CLOSED, "%s: %s", endpoint, m->hopeless) : CW_OK;
}

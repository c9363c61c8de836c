/* link.c - see link.h. */
#include <string.h>

#include "net/link.h"

/* Beside its bytes, what a kept frame costs. */
enum { KEPT_OVERHEAD = 64 };

/* An ACK costs 34 bytes on the socket. So it is sent for so many bytes or frames, or this long after the first. */
enum { ACK_BYTES = 64 << 10, ACK_FRAMES = 16 };
static const double ack_seconds = 1;

/* ---- control chunks ---- */

/* They are chunks that continue frame 0, which there is not. */
void cwi_control_write(uint8_t chunk[CWI_CONTROL_SIZE], const cwi_control *control)
{
    uint8_t *body = chunk + CWI_CHUNK_HEADER;
    cwi_chunk_header(chunk, 0, false, CWI_CONTROL_SIZE - CWI_CHUNK_HEADER);
    cwi_put_le(body, control->kind, 8);
    cwi_put_le(body + 8, control->server, 8);
    cwi_put_le(body + 16, control->expected, 4);
    cwi_put_le(body + 20, control->have, 4);
}

bool cwi_control_read(const uint8_t *chunk, size_t size, cwi_control *out)
{
    const uint8_t *body = chunk + CWI_CHUNK_HEADER;
    if (size != CWI_CONTROL_SIZE || cwi_get_le(chunk, 4) != 0 ||
        cwi_get_le(chunk + 4, 4) != CWI_CONTROL_SIZE - CWI_CHUNK_HEADER)
        return false;
    const uint64_t kind = cwi_get_le(body, 8);
    *out = (cwi_control){.kind = (cwi_control_kind)kind,
                         .server = cwi_get_le(body + 8, 8),
                         .expected = (uint32_t)cwi_get_le(body + 16, 4),
                         .have = (uint32_t)cwi_get_le(body + 20, 4)};
    return kind >= CWI_CONTROL_RESUME && kind <= CWI_CONTROL_CLOSED;
}

/* ---- frames that were sent ---- */

cw_status cwi_link_keep(cwi_link *l, uint32_t number, const void *bytes, size_t size, cw_error *err)
{
    size_t total;
    cwi_kept_frame *f = cwi_add_size(size, sizeof *f, &total) ? cwi_alloc(total, 1) : NULL;
    if (!f)
        return cwi_fail_memory(err, size);
    f->next = NULL;
    f->size = size;
    f->number = number;
    if (size)
        memcpy(f->bytes, bytes, size);
    if (l->last)
        l->last->next = f;
    else
        l->first = f;
    l->last = f;
    l->kept += size + KEPT_OVERHEAD;
    return CW_OK;
}

void cwi_link_forget_first(cwi_link *l)
{
    cwi_kept_frame *f = l->first;
    l->first = f->next;
    if (!l->first)
        l->last = NULL;
    l->kept -= f->size + KEPT_OVERHEAD;
    cwi_free(f);
}

void cwi_link_forget_last(cwi_link *l)
{
    cwi_kept_frame **at = &l->first, *before = NULL;
    for (; *at && *at != l->last; at = &(*at)->next)
        before = *at;
    if (!*at)
        return;
    l->kept -= l->last->size + KEPT_OVERHEAD;
    cwi_free(l->last);
    *at = NULL;
    l->last = before;
}

static bool is_kept(const cwi_link *l, uint32_t number)
{
    for (const cwi_kept_frame *f = l->first; f; f = f->next)
        if (f->number == number)
            return true;
    return false;
}

bool cwi_link_release(cwi_link *l, uint32_t expected, uint32_t have, uint32_t next)
{
    if (expected != next && !is_kept(l, expected))
        return false;
    while (l->first && l->first->number != expected) {
        l->released_bytes += l->first->size;
        cwi_link_forget_first(l);
    }
    const uint64_t given = l->released_bytes + (l->first ? CWI_MIN((size_t)have, l->first->size) : 0);
    l->given_bytes = CWI_MAX(l->given_bytes, given); /* what a connection took with it crosses twice */
    return true;
}

void cwi_link_clear(cwi_link *l)
{
    while (l->first)
        cwi_link_forget_first(l);
    *l = (cwi_link){0};
}

/* ---- frames that come ---- */

/* Until the other end is known to know this, whatever comes: but what an earlier connection to another server has left
 * does not begin with the first frame. */
bool cwi_link_wants(const cwi_link *l, uint32_t number)
{
    return l->joined || !l->taken ? number == cwi_link_expected(l) : true;
}

void cwi_link_took(cwi_link *l, uint32_t number, size_t bytes, size_t have)
{
    l->taken_bytes += bytes;
    l->owed += bytes;
    l->have = (uint32_t)have;
    if (!have) {
        l->taken = number;
        l->owed_frames++;
    }
    if (l->owed_since == 0)
        l->owed_since = cwi_seconds();
}

bool cwi_link_ack_due(const cwi_link *l, double now)
{
    return l->joined && !l->broken && l->owed_since != 0 &&
           ((l->owed >= ACK_BYTES && l->owed_frames) || l->owed_frames >= ACK_FRAMES ||
            now - l->owed_since >= ack_seconds);
}

cwi_control cwi_link_ack(cwi_link *l, uint64_t server)
{
    l->owed = l->owed_frames = 0;
    l->owed_since = 0;
    return (cwi_control){.kind = CWI_CONTROL_ACK, .server = server, .expected = cwi_link_expected(l), .have = l->have};
}

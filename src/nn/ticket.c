/* ticket.c - a ticket's planned batch sizes and their memory.
 *
 * Each ticket plans programs of its own, which share the part's parameters: so several forwards can be open without
 * anything being moved or pointed elsewhere between them. (Pointing one program's memories to another place is no way:
 * oneDNN writes zeros to the padding of a memory that is given a place, where another value may live by then.)
 */
#include "nn/part.h"

/* ---- planning ---- */

static cw_status build_net(cw_part *part, cwi_ticket *ticket, cwi_net *net, size_t n, cw_mode mode, cw_error *err)
{
    cwi_plan plan = {.model = part->model,
                     .params = &part->params,
                     .borders = &ticket->borders,
                     .first = part->first,
                     .last = part->last,
                     .n = n,
                     .mode = mode,
                     .input_grad = part->options.input_grad,
                     .seed = part->options.seed,
                     .type = part->precision == CW_PRECISION_BF16 ? dnnl_bf16 : dnnl_f32};
    CWI_TRY(cwi_plan_net(&plan, net, err));
    cw_status s = cwi_params_settle(&part->params, err);
    if (s != CW_OK)
        cwi_net_clear(net);
    return s;
}

/* The arena serves whichever program runs; the largest decides its size, and a new one means new addresses. */
static cw_status bind_all(cwi_ticket *t, cwi_net *added, cw_error *err)
{
    if (added->program.arena_bytes > t->arena_bytes) {
        void *bigger = cwi_alloc(1, added->program.arena_bytes);
        if (!bigger)
            return cwi_fail_memory(err, added->program.arena_bytes);
        cwi_free(t->arena);
        t->arena = bigger;
        t->arena_bytes = added->program.arena_bytes;
        for (size_t i = 0; i < t->net_count; i++)
            CWI_TRY(cwi_program_bind(&t->nets[i]->program, t->arena, err));
    }
    return cwi_program_bind(&added->program, t->arena, err);
}

static void drop_net(cwi_net *net)
{
    if (net) {
        cwi_net_clear(net);
        cwi_free(net);
    }
}

static void keep_net(cwi_ticket *t, cwi_net *net)
{
    if (t->net_count < CWI_MAX_NETS) {
        t->nets[t->net_count++] = net;
        return;
    }
    t->next_victim = t->next_victim % (CWI_MAX_NETS - 1) + 1;
    drop_net(t->nets[t->next_victim]);
    t->nets[t->next_victim] = net;
}

static cw_status add_net(cw_part *part, cwi_ticket *ticket, size_t n, cw_mode mode, cwi_net **out, cw_error *err)
{
    cwi_net *net = cwi_calloc(1, sizeof *net);
    if (!net)
        return cwi_fail_memory(err, sizeof *net);
    cw_status s = build_net(part, ticket, net, n, mode, err);
    if (s == CW_OK)
        s = bind_all(ticket, net, err);
    if (s != CW_OK) {
        drop_net(net);
        return s;
    }
    keep_net(ticket, net);
    *out = net;
    return CW_OK;
}

cw_status cwi_ticket_net(cw_part *part, cwi_ticket *ticket, size_t n, cw_mode mode, cwi_net **out, cw_error *err)
{
    cwi_ticket_close(ticket); /* binding what is planned now writes to memory that an open forward would need */
    for (size_t i = 0; i < ticket->net_count; i++) {
        if (ticket->nets[i]->n == n && ticket->nets[i]->mode == mode) {
            *out = ticket->nets[i];
            return CW_OK;
        }
    }
    return add_net(part, ticket, n, mode, out, err);
}

/* ---- life ---- */

static cw_status create_logits(const cw_part *part, cwi_ticket *ticket, cw_error *err)
{
    if (part->last != part->model->layer_count)
        return CW_OK;
    size_t per_sample, count;
    CWI_TRY(cw_shape_count(&part->model->layers[part->last - 1].out, &per_sample));
    if (!cwi_mul_size(per_sample, part->options.max_batch, &count))
        return cwi_fail(err, CW_ERR_INVALID, "the output of max_batch samples is too large");
    ticket->logits = cwi_calloc(count, sizeof(float));
    ticket->dlogits = cwi_calloc(count, sizeof(float));
    ticket->borders.logits = ticket->logits;
    return ticket->logits && ticket->dlogits ? CW_OK : cwi_fail_memory(err, count * sizeof(float));
}

cw_status cwi_ticket_create(cw_part *part, cwi_ticket *ticket, cw_error *err)
{
    cwi_net *net;
    ticket->borders.position = &ticket->position;
    ticket->borders.diverged = &ticket->diverged;
    CWI_TRY(create_logits(part, ticket, err));
    return cwi_ticket_net(part, ticket, part->options.max_batch, part->options.inference ? CW_EVAL : CW_TRAIN, &net,
                          err);
}

void cwi_ticket_destroy(cwi_ticket *ticket)
{
    for (size_t i = 0; i < ticket->net_count; i++)
        drop_net(ticket->nets[i]);
    cwi_free(ticket->arena);
    cwi_free(ticket->logits);
    cwi_free(ticket->dlogits);
}

void cwi_ticket_close(cwi_ticket *ticket)
{
    ticket->trained = NULL;
    ticket->forward_n = 0;
    ticket->loss_ready = false;
}

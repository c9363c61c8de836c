/* chaos_liar.c - a client that lies, as a process: chaos_liar ENDPOINT IDENTITY NUMBER-OF-THE-LIE (tests/train/liar.h).
 */
#include <stdio.h>
#include <stdlib.h>

#include "config/config.h"
#include "cutwire/train.h"
#include "liar.h"

#include "test.h"

int main(int argc, char **argv)
{
    cw_config config;
    cw_error err;
    cw_transport *t;
    const int told = argc == 4 ? atoi(argv[3]) : -1;
    if (told < 0 || told >= LIES)
        return 2;
    cwi_config_init(&config);
    config.threads = 1;
    config.loader_threads = 0;
    snprintf(config.identity, sizeof config.identity, "%s", argv[2]);
    cw_status status = cw_net_connect(argv[1], NULL, &t, &err);
    if (status == CW_OK) {
        lying_transport liar = lying_transport_around(t, (lie)told);
        status = cw_join(&config, NULL, &liar.base, NULL, &err);
        cw_transport_close(&t, 1000);
    }
    if (status != CW_OK)
        fprintf(stderr, "%s: %s\n", lie_names[told], err.message);
    return status != CW_OK;
}

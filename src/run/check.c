/* check.c - whether a configuration can be run: asked before anything is started. */
#include "cutwire/train.h"
#include "modes/guard.h"
#include "modes/mode.h"

cw_status cw_config_check(const cw_config *config, cw_error *err)
{
    const cwi_mode *mode;
    cwi_setup setup;
    CWI_TRY(cwi_mode_find(config->mode, &mode, err));
    CWI_TRY(cwi_guard_check(config, err));
    CWI_TRY(cwi_run_folder_check(config, err));
    CWI_TRY(cwi_setup_open(config, &setup, err));
    cwi_setup_close(&setup);
    return CW_OK;
}

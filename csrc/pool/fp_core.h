/* fp_core.h: the only header that Cython includes. */
#ifndef FP_CORE_H
#define FP_CORE_H

#include "base/fp_base.h"
#include "ds/fp_ledger.h"
#include "os/fp_os.h"
#include "pool/fp_pool.h"
#include "sys/fp_memory.h"
#include "sys/fp_topo.h"
#include "sys/fp_zygote.h"

#endif

// The kernels of one instruction set: compiled once for each, with its flags and with HYMUNET_ISA naming it.
#include "backward.h"
#include "forward.h"

#define NAME_(isa) #isa
#define NAME(isa) NAME_(isa)
#define TABLE_(isa) hymunet_kernels_##isa
#define TABLE(isa) TABLE_(isa)

extern const Kernels TABLE(HYMUNET_ISA);
const Kernels TABLE(HYMUNET_ISA) = {NAME(HYMUNET_ISA), forward_tasks, forward, backward, reduce, peak};

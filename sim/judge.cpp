#include "sim/judge.h"

namespace hf::sim {

const char* to_string(Probe probe) {
  switch (probe) {
#define HF_SIM_PROBE(name) \
  case Probe::name:        \
    return #name;
    HF_SIM_PROBES(HF_SIM_PROBE)
#undef HF_SIM_PROBE
    case Probe::kCount:
      break;
  }
  return "";
}

void Judge::write(std::string line) {
  constexpr size_t kTraceMax = 100'000;
  if (trace_.size() >= kTraceMax) return;
  constexpr uint64_t kStart = 1'577'836'800'000'000;
  trace_.push_back(fmt::format("{:>10} µs  {}", scheduler_.now().value - kStart, line));
}

}  // namespace hf::sim

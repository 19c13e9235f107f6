// What of a boot is GRUB's configuration, and so may change when that does: its commands, and the
// files that it reads before it loads a kernel. Never the kernel, its command line or the initrd.
#pragma once

#include <vector>

#include "attestation/baseline/baseline.h"

namespace hf::attestation {

// By the words of baseline entries alone: a command in PCR 8, or a file that the disk explains.
bool is_grub_config(const BaselineEntry& entry);

class GrubConfig {
 public:
  // Both outlive it.
  GrubConfig(const MeasuredBoot& boot, const Explanations& explanations);

  // Whether a difference may come of another configuration. What is measured has to be known as a
  // command, by proven text or by the disk: an unknown one may be the kernel's command line. A file
  // has to be explained as the configuration, or to come before the first command that loads
  // something, which takes an order across registers that is vouched for.
  bool explains(const BaselineEntry* was, const Measurement* is) const;

 private:
  bool is_command(const Measurement& m) const;
  std::string command_of(const Measurement& m) const;
  const MeasuredBoot& boot_;
  const Explanations& explanations_;
  size_t loading_from_ = 0;  // index of the first measurement that may load something
};

}  // namespace hf::attestation

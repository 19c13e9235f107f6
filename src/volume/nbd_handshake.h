// The negotiation of NBD's fixed newstyle, without I/O: bytes in, bytes out.
//
//   greeting → client flags → options … → (EXPORT_NAME | GO) → transmission
//                                       → ABORT, a breach of protocol → closed
//
// Everything a client can send is bounded: the length of an option, the number of options.
#pragma once

#include <string>

#include "base/bytes.h"
#include "volume/nbd_protocol.h"
#include "volume/volume.h"

namespace hf::volume {

// What a listener offers. A client may also ask for the empty name: the default export.
struct NbdExport {
  std::string name;
  std::string description;
  Volume* volume = nullptr;  // outlives the sessions
};

class NbdHandshake {
 public:
  explicit NbdHandshake(const NbdExport& offered) : export_(offered) {}

  enum class Step { kClientFlags, kOption, kSkip, kTransmission, kClosed };

  void greet(Bytes& out) const;
  // Takes what it can of `in`, appends answers to `out`, returns how much was taken; 0: more is
  // needed. Never more than kOptionMax bytes are needed at once.
  size_t consume(ByteSpan in, Bytes& out);

  Step step() const { return step_; }
  bool structured_replies() const { return structured_replies_; }

  static constexpr size_t kOptionDataMax = 8192;
  static constexpr size_t kOptionMax = nbd::kOptionHeaderSize + kOptionDataMax;
  static constexpr size_t kSkipMax = size_t{1} << 20;  // a longer option ends the session
  static constexpr size_t kOptionsMax = 256;           // of one session

 private:
  size_t consume_option(ByteSpan in, Bytes& out);
  void handle(nbd::Option option, ByteSpan data, Bytes& out);
  void handle_export_name(ByteSpan name, Bytes& out);
  void handle_list(ByteSpan data, Bytes& out);
  void handle_info(nbd::Option option, ByteSpan data, Bytes& out);
  bool offers(ByteSpan name) const;
  uint16_t transmission_flags() const;

  const NbdExport& export_;
  Step step_ = Step::kClientFlags;
  bool structured_replies_ = false;
  bool no_zeroes_ = false;
  size_t options_ = 0;
  size_t skip_left_ = 0;
};

}  // namespace hf::volume

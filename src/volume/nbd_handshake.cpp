#include "volume/nbd_handshake.h"

#include <algorithm>

namespace hf::volume {
namespace {

using nbd::Info;
using nbd::Option;
using nbd::OptionReply;

template <std::unsigned_integral T>
void put(Bytes& out, T value) {
  size_t at = out.size();
  out.resize(at + sizeof value);
  store_be(out.data() + at, value);
}
void put(Bytes& out, ByteSpan bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); }

void put_reply(Bytes& out, Option option, OptionReply reply, size_t length) {
  put(out, nbd::kOptionReplyMagic);
  put(out, static_cast<uint32_t>(option));
  put(out, static_cast<uint32_t>(reply));
  put(out, static_cast<uint32_t>(length));
}

// An error reply may carry a text for a person.
void put_error(Bytes& out, Option option, OptionReply reply, std::string_view text) {
  put_reply(out, option, reply, text.size());
  put(out, as_bytes(text));
}

void put_info_text(Bytes& out, Option option, Info info, std::string_view text) {
  put_reply(out, option, OptionReply::kInfo, 2 + text.size());
  put(out, static_cast<uint16_t>(info));
  put(out, as_bytes(text));
}

}  // namespace

void NbdHandshake::greet(Bytes& out) const {
  put(out, nbd::kInitMagic);
  put(out, nbd::kOptionMagic);
  put(out, static_cast<uint16_t>(nbd::kFixedNewstyle | nbd::kNoZeroes));
}

size_t NbdHandshake::consume(ByteSpan in, Bytes& out) {
  switch (step_) {
    case Step::kClientFlags: {
      if (in.size() < 4) return 0;
      auto flags = load_be<uint32_t>(in.data());
      bool known = (flags & ~uint32_t{nbd::kFixedNewstyle | nbd::kNoZeroes}) == 0;
      // Without fixed newstyle a client could not read our option replies.
      bool fixed = (flags & nbd::kFixedNewstyle) != 0;
      no_zeroes_ = (flags & nbd::kNoZeroes) != 0;
      step_ = known && fixed ? Step::kOption : Step::kClosed;
      return 4;
    }
    case Step::kOption:
      return consume_option(in, out);
    case Step::kSkip: {
      size_t count = std::min(in.size(), skip_left_);
      skip_left_ -= count;
      if (skip_left_ == 0) step_ = Step::kOption;
      return count;
    }
    case Step::kTransmission:
    case Step::kClosed:
      return 0;
  }
  return 0;
}

size_t NbdHandshake::consume_option(ByteSpan in, Bytes& out) {
  if (in.size() < nbd::kOptionHeaderSize) return 0;
  auto option = static_cast<Option>(load_be<uint32_t>(in.data() + 8));
  auto length = load_be<uint32_t>(in.data() + 12);
  if (load_be<uint64_t>(in.data()) != nbd::kOptionMagic || length > kSkipMax ||
      ++options_ > kOptionsMax) {
    step_ = Step::kClosed;
    return nbd::kOptionHeaderSize;
  }
  if (length > kOptionDataMax) {
    if (option == Option::kExportName) {
      step_ = Step::kClosed;  // the one option without error replies
      return nbd::kOptionHeaderSize;
    }
    put_error(out, option, OptionReply::kTooBig, "option data too long");
    skip_left_ = length;
    step_ = Step::kSkip;
    return nbd::kOptionHeaderSize;
  }
  if (in.size() < nbd::kOptionHeaderSize + length) {
    --options_;  // it will be seen again, whole
    return 0;
  }
  handle(option, in.subspan(nbd::kOptionHeaderSize, length), out);
  return nbd::kOptionHeaderSize + length;
}

void NbdHandshake::handle(Option option, ByteSpan data, Bytes& out) {
  switch (option) {
    case Option::kExportName:
      return handle_export_name(data, out);
    case Option::kAbort:
      put_reply(out, option, OptionReply::kAck, 0);
      step_ = Step::kClosed;
      return;
    case Option::kList:
      return handle_list(data, out);
    case Option::kInfo:
    case Option::kGo:
      return handle_info(option, data, out);
    case Option::kStructuredReply:
      if (!data.empty()) {
        return put_error(out, option, OptionReply::kInvalid, "option takes no data");
      }
      structured_replies_ = true;
      return put_reply(out, option, OptionReply::kAck, 0);
    case Option::kStartTls:
    case Option::kListMetaContext:
    case Option::kSetMetaContext:
      break;
  }
  put_reply(out, option, OptionReply::kUnsupported, 0);
}

bool NbdHandshake::offers(ByteSpan name) const {
  return name.empty() || as_text(name) == export_.name;
}

uint16_t NbdHandshake::transmission_flags() const {
  unsigned flags = nbd::kHasFlags | nbd::kSendFlush | nbd::kSendFua | nbd::kSendTrim |
                   nbd::kSendWriteZeroes | nbd::kSendFastZero;
  // All connections end in one volume and one journal: a flush on one covers what completed on any.
  flags |= nbd::kCanMultiConn;
  if (structured_replies_) flags |= nbd::kSendDf;
  return static_cast<uint16_t>(flags);
}

void NbdHandshake::handle_export_name(ByteSpan name, Bytes& out) {
  if (!offers(name)) {
    step_ = Step::kClosed;
    return;
  }
  put(out, export_.volume->size_bytes());
  put(out, transmission_flags());
  if (!no_zeroes_) out.resize(out.size() + 124);
  step_ = Step::kTransmission;
}

void NbdHandshake::handle_list(ByteSpan data, Bytes& out) {
  if (!data.empty()) {
    return put_error(out, Option::kList, OptionReply::kInvalid, "option takes no data");
  }
  put_reply(out, Option::kList, OptionReply::kServer, 4 + export_.name.size());
  put(out, static_cast<uint32_t>(export_.name.size()));
  put(out, as_bytes(export_.name));
  put_reply(out, Option::kList, OptionReply::kAck, 0);
}

// u32 name length, name, u16 count, count × u16 information request
void NbdHandshake::handle_info(Option option, ByteSpan data, Bytes& out) {
  auto invalid = [&] { put_error(out, option, OptionReply::kInvalid, "malformed option data"); };
  if (data.size() < 6) return invalid();
  auto name_size = load_be<uint32_t>(data.data());
  if (name_size > nbd::kNameMax || data.size() < 6 + size_t{name_size}) return invalid();
  ByteSpan name = data.subspan(4, name_size);
  auto count = load_be<uint16_t>(data.data() + 4 + name_size);
  ByteSpan requests = data.subspan(6 + name_size);
  if (requests.size() != size_t{count} * 2) return invalid();
  if (!offers(name)) {
    return put_error(out, option, OptionReply::kUnknownExport, "no export of this name");
  }
  for (size_t i = 0; i < requests.size(); i += 2) {
    auto info = static_cast<Info>(load_be<uint16_t>(requests.data() + i));
    if (info == Info::kName) put_info_text(out, option, info, export_.name);
    if (info == Info::kDescription) put_info_text(out, option, info, export_.description);
  }
  put_reply(out, option, OptionReply::kInfo, 14);
  put(out, static_cast<uint16_t>(Info::kBlockSize));
  put(out, export_.volume->block_bytes());
  put(out, std::max<uint32_t>(4096, export_.volume->block_bytes()));
  put(out, nbd::kPayloadMax);
  put_reply(out, option, OptionReply::kInfo, 12);
  put(out, static_cast<uint16_t>(Info::kExport));
  put(out, export_.volume->size_bytes());
  put(out, transmission_flags());
  put_reply(out, option, OptionReply::kAck, 0);
  if (option == Option::kGo) step_ = Step::kTransmission;
}

}  // namespace hf::volume

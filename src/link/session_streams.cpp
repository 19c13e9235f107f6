// Streams of a session.
#include <algorithm>

#include "link/session.h"

namespace hf::link {

using peer::FrameType;
using peer::LinkType;

namespace {

constexpr Micros kAnswerLimit = seconds(15);  // for holdfastd, here and there, to give a socket

Error broke_rules(std::string cause) {
  return {.code = ErrorCode::kCorrupt, .cause = std::move(cause)};
}

}  // namespace

// ---- From holdfastd ----

void Session::open(uint64_t link_id, VmId vm, sys::UniqueFd keeper) {
  const uint64_t mux_id = next_id(next_stream_);
  auto made = std::make_unique<Stream>(uplink_.loop(), *this, budget_, mux_id, link_id, vm,
                                       Stream::State::kOffered);
  Stream& stream = *made;
  streams_[mux_id] = std::move(made);
  stream_ids_[link_id] = mux_id;
  if (Status given = stream.give_socket(std::move(keeper)); !given.ok())
    return end_stream(stream, given.error(), false);
  if (streams_.size() - theirs_open_ > peer::kStreamsPerPeerMax) {
    return end_stream(stream,
                      {.code = ErrorCode::kLimit,
                       .cause = "there are " + std::to_string(peer::kStreamsPerPeerMax) +
                                " streams with site " + name_ + " already"},
                      false);
  }
  auto& limit = stream_limits_[mux_id];
  limit = std::make_unique<CallbackTimer>(uplink_.loop(), [this, mux_id] {
    end_stream(*streams_.at(mux_id),
               {.code = ErrorCode::kTimeout, .cause = "site " + name_ + " did not answer"}, true);
  });
  limit->arm(Micros(2 * kAnswerLimit.value));
  queue(peer::encode_frame(FrameType::kOpen, mux_id, vm.span()));
}

void Session::accept(uint64_t link_id, sys::UniqueFd keeper) {
  const auto id = stream_ids_.find(link_id);
  if (id == stream_ids_.end()) return;  // it has ended meanwhile, and holdfastd was told
  Stream& stream = *streams_.at(id->second);
  if (stream.state() != Stream::State::kAsked) return;
  Status given = stream.give_socket(std::move(keeper));
  if (given.ok()) given = stream.open();
  if (!given.ok()) return end_stream(stream, given.error(), true);
  uplink_.loop().bury(std::move(stream_limits_.at(stream.mux_id())));
  stream_limits_.erase(stream.mux_id());
  queue(peer::encode_frame(FrameType::kAccept, stream.mux_id(), {}));
  uplink_.send(LinkType::kOpened, link_id, {});
}

void Session::refuse(uint64_t link_id, ByteSpan body) {
  const auto id = stream_ids_.find(link_id);
  if (id == stream_ids_.end() || body.size() > peer::kErrorBodyMax) return;
  Stream& stream = *streams_.at(id->second);
  if (stream.state() != Stream::State::kAsked) return;
  queue(peer::encode_frame(FrameType::kRefuse, stream.mux_id(), body));
  end_stream(stream, LinkType::kEnded, body, false);
}

void Session::close(uint64_t link_id) {
  const auto id = stream_ids_.find(link_id);
  if (id == stream_ids_.end()) return;
  end_stream(*streams_.at(id->second),
             {.code = ErrorCode::kUnavailable, .cause = "the stream was ended by holdfastd"}, true);
}

// ---- From the other site ----

Status Session::take_stream_frame(const peer::Frame& frame) {
  const FrameType type = frame.header.type;
  const uint64_t mux_id = frame.header.id;
  if (type == FrameType::kOpen) return take_open(frame);
  const auto at = streams_.find(mux_id);
  if (at == streams_.end()) {
    // One that has ended here may still be sent to; one that never was may not.
    const bool ours = (mux_id % 2 == 1) == dialled_by_us();
    const bool was = ours ? mux_id < next_stream_ : mux_id <= their_last_stream_;
    return was ? Status() : Status(broke_rules("a stream that never was"));
  }
  Stream& stream = *at->second;
  switch (type) {
    case FrameType::kAccept:
      return take_accept(stream);
    case FrameType::kRefuse: {
      if (stream.state() != Stream::State::kOffered)
        return broke_rules("a refusal of what is no offer");
      const Bytes why = peer::encode_error_body(peer::decode_error_body(frame.body));
      end_stream(stream, LinkType::kRefuse, why, false);
      return {};
    }
    case FrameType::kReset:
      end_stream(stream, peer::decode_error_body(frame.body).error, false);
      return {};
    case FrameType::kData:
      TRY(stream.take_data(frame.body));
      step(stream);
      return {};
    case FrameType::kCredit:
      TRY(stream.take_credit(TRY(peer::decode_credit(frame.body))));
      step(stream);
      return {};
    default:
      HF_ASSERT(type == FrameType::kFin);
      TRY(stream.take_fin());
      step(stream);
      return {};
  }
}

Status Session::take_open(const peer::Frame& frame) {
  const uint64_t mux_id = frame.header.id;
  const VmId vm = TRY(peer::decode_open(frame.body));
  if ((mux_id % 2 == 1) == dialled_by_us() || mux_id <= their_last_stream_)
    return broke_rules("a stream with an id that it cannot have");
  their_last_stream_ = mux_id;
  auto refuse_it = [&](Error error) {
    queue(peer::encode_frame(FrameType::kRefuse, mux_id,
                             peer::encode_error_body({.error = std::move(error)})));
    return Status();
  };
  if (theirs_open_ >= peer::kStreamsPerPeerMax) {
    return refuse_it({.code = ErrorCode::kLimit,
                      .cause = "there are " + std::to_string(peer::kStreamsPerPeerMax) +
                               " streams from this site already"});
  }
  if (!uplink_.reachable()) {
    return refuse_it({.code = ErrorCode::kUnavailable,
                      .cause = "the other site's host is up, but its holdfastd does not answer",
                      .effect = "nothing is received there",
                      .mend = "holdfast site start there"});
  }
  const uint64_t link_id = uplink_.new_id(site_);
  streams_[mux_id] = std::make_unique<Stream>(uplink_.loop(), *this, budget_, mux_id, link_id, vm,
                                              Stream::State::kAsked);
  stream_ids_[link_id] = mux_id;
  ++theirs_open_;
  auto& limit = stream_limits_[mux_id];
  limit = std::make_unique<CallbackTimer>(uplink_.loop(), [this, mux_id] {
    end_stream(
        *streams_.at(mux_id),
        {.code = ErrorCode::kTimeout, .cause = "the other site's holdfastd did not answer in time"},
        true);
  });
  limit->arm(kAnswerLimit);
  uplink_.send(LinkType::kOpen, link_id, peer::encode_open_body({.site = site_, .vm = vm}));
  return {};
}

Status Session::take_accept(Stream& stream) {
  if (stream.state() != Stream::State::kOffered)
    return broke_rules("an answer to what is no offer");
  uplink_.loop().bury(std::move(stream_limits_.at(stream.mux_id())));
  stream_limits_.erase(stream.mux_id());
  if (Status opened = stream.open(); !opened.ok()) {
    end_stream(stream, opened.error(), true);
    return {};
  }
  uplink_.send(LinkType::kOpened, stream.link_id(), {});
  return {};
}

// ---- Bytes ----

void Session::stream_ready(Stream& stream) { step(stream); }

void Session::step(Stream& stream) {
  if (Status flushed = stream.flush(); !flushed.ok())
    return end_stream(stream, flushed.error(), true);
  if (const uint32_t grant = stream.take_grant(); grant != 0) {
    std::byte body[4];
    store_le<uint32_t>(body, grant);
    queue(peer::encode_frame(FrameType::kCredit, stream.mux_id(), body));
  }
  if (stream.can_send() && !stream.in_ring) {
    stream.in_ring = true;
    ring_.push_back(stream.mux_id());
    pump_task_.defer();
  }
  if (stream.over()) end_stream(stream, LinkType::kEnded, {}, false);
}

// One frame of the stream whose turn it is; false: none has anything.
bool Session::append_data() {
  while (!ring_.empty()) {
    const uint64_t mux_id = ring_.front();
    ring_.pop_front();
    const auto at = streams_.find(mux_id);
    if (at == streams_.end()) continue;
    Stream& stream = *at->second;
    stream.in_ring = false;
    if (!stream.can_send()) continue;
    const size_t begin = out_.size();
    out_.resize(begin + peer::kFrameSizeMax);
    const Result<size_t> got =
        stream.read(MutableByteSpan(out_).subspan(begin + peer::kFrameHeaderSize));
    const size_t size = got.ok() ? *got : 0;
    out_.resize(size == 0 ? begin : begin + peer::kFrameHeaderSize + size);
    if (!got.ok()) {
      end_stream(stream, got.error(), true);
      continue;
    }
    if (size > 0) {
      peer::encode_frame_header(
          {.type = FrameType::kData, .length = static_cast<uint32_t>(size), .id = mux_id},
          std::span<std::byte, peer::kFrameHeaderSize>(out_.data() + begin,
                                                       peer::kFrameHeaderSize));
    }
    if (stream.eof() && !stream.fin_sent) {
      stream.fin_sent = true;
      queue(peer::encode_frame(FrameType::kFin, mux_id, {}));
    }
    step(stream);
    if (size > 0) return true;
  }
  return false;
}

// ---- The ends ----

void Session::end_stream(Stream& stream, LinkType how, ByteSpan why, bool tell_peer) {
  const uint64_t mux_id = stream.mux_id();
  const uint64_t link_id = stream.link_id();
  if (tell_peer) queue(peer::encode_frame(FrameType::kReset, mux_id, why));
  uplink_.send(how, link_id, why);
  uplink_.drop_id(link_id);
  const bool ours = (mux_id % 2 == 1) == dialled_by_us();
  if (!ours) --theirs_open_;
  if (const auto limit = stream_limits_.find(mux_id); limit != stream_limits_.end()) {
    uplink_.loop().bury(std::move(limit->second));
    stream_limits_.erase(limit);
  }
  stream_ids_.erase(link_id);
  stream.close();
  const auto at = streams_.find(mux_id);
  uplink_.loop().bury(std::move(at->second));
  streams_.erase(at);
}

void Session::end_stream(Stream& stream, const Error& why, bool tell_peer) {
  end_stream(stream, LinkType::kEnded, peer::encode_error_body({.error = why}), tell_peer);
}

void Session::close_all() {
  const Error why{.code = ErrorCode::kUnavailable, .cause = "holdfastd was started anew"};
  while (!streams_.empty()) end_stream(*streams_.begin()->second, why, true);
}

void Session::end_streams(const Error& why) {
  Error error = why;
  error.code = ErrorCode::kUnavailable;
  while (!streams_.empty()) end_stream(*streams_.begin()->second, error, false);
}

}  // namespace hf::link

#include "volume/nbd_session.h"

#include <algorithm>

namespace hf::volume {

using nbd::Command;
using nbd::WireError;

namespace {

WireError to_wire(const Error& error) {
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
      return WireError::kInvalid;
    case ErrorCode::kNoSpace:
      return WireError::kNoSpace;
    case ErrorCode::kUnsupported:
      return WireError::kNotSupported;
    case ErrorCode::kUnavailable:
      return WireError::kShutdown;
    default:
      return WireError::kIo;
  }
}

}  // namespace

NbdSession::NbdSession(NbdSessionOwner& owner, const NbdExport& offered)
    : owner_(owner),
      volume_(*offered.volume),
      handshake_(offered),
      input_(kInputSize),
      pieces_(kPieces),
      transactions_(kTransactions) {
  for (Piece& piece : pieces_) {
    piece.session = this;
    piece.next = std::exchange(free_pieces_, &piece);
  }
  for (Transaction& transaction : transactions_) {
    transaction.next_free = std::exchange(free_transactions_, &transaction);
  }
  handshake_.greet(handshake_out_);
}

NbdSession::~NbdSession() { HF_ASSERT(idle()); }

void NbdSession::abandon() {
  closing_ = true;
  abandoned_ = true;
  handshake_out_.clear();
  handshake_sending_.clear();  // a send under way may still read the memory: it stays allocated
  out_head_ = out_tail_ = nullptr;
}

// ---- Input ----

MutableByteSpan NbdSession::input() {
  if (closing_) return {};
  // The data of a large write goes straight into its piece. Completions that come before the bytes
  // do cannot take the piece away: it is not full.
  input_direct_ = state_ == State::kWriteData && filling_ != nullptr && buffered() == 0;
  if (input_direct_) {
    return MutableByteSpan(*filling_->buffer).first(filling_->length).subspan(filling_->filled);
  }
  compact_input();
  return MutableByteSpan(input_).subspan(input_end_);
}

void NbdSession::compact_input() {
  if (input_begin_ == 0) return;
  std::memmove(input_.data(), input_.data() + input_begin_, buffered());
  input_end_ -= input_begin_;
  input_begin_ = 0;
}

void NbdSession::received(size_t count) {
  HF_ASSERT(!abandoned_);
  in_call_ = true;
  // What arrives after the end of the session is dropped.
  if (input_direct_) {
    HF_ASSERT(filling_ != nullptr);
    filling_->filled += count;
    HF_ASSERT(filling_->filled <= filling_->length);
  } else {
    input_end_ += count;
    HF_ASSERT(input_end_ <= input_.size());
  }
  advance();
  in_call_ = false;
}

void NbdSession::advance() {
  while (!closing_ && step()) {
  }
}

// One step forward; false when it needs more bytes, or a piece, or a completion.
bool NbdSession::step() {
  if (!in_transmission()) return step_handshake();
  switch (state_) {
    case State::kHeader:
      return step_header();
    case State::kWriteData:
      return step_write_data();
    case State::kReadIssue:
      return step_read_issue();
    case State::kSkipData:
      return step_skip();
    case State::kSimpleRun:
      return step_simple_run();
  }
  return false;
}

bool NbdSession::step_handshake() {
  // A client that does not read its answers is not listened to either.
  if (handshake_out_.size() > NbdHandshake::kOptionMax) return false;
  size_t taken =
      handshake_.consume(ByteSpan(input_).subspan(input_begin_, buffered()), handshake_out_);
  input_begin_ += taken;
  if (handshake_.step() == NbdHandshake::Step::kClosed) close();
  return taken > 0;
}

bool NbdSession::step_header() {
  if (buffered() < nbd::kRequestHeaderSize) return false;
  if (free_transactions_ == nullptr || free_pieces_ == nullptr) return false;
  const std::byte* raw = input_.data() + input_begin_;
  if (load_be<uint32_t>(raw) != nbd::kRequestMagic) {
    close();
    return false;
  }
  auto flags = load_be<uint16_t>(raw + 4);
  auto command = static_cast<Command>(load_be<uint16_t>(raw + 6));
  auto cookie = load_be<uint64_t>(raw + 8);
  auto offset = load_be<uint64_t>(raw + 16);
  auto length = load_be<uint32_t>(raw + 24);
  input_begin_ += nbd::kRequestHeaderSize;
  if (command == Command::kDisconnect) {
    close();
    return false;
  }
  if (command == Command::kWrite && length > nbd::kPayloadMax) {
    close();  // its data would have to be read to find the next request
    return false;
  }
  WireError error = check(command, flags, offset, length);
  if (error == WireError::kNone && (length > 0 || command == Command::kFlush)) {
    begin(command, flags, cookie, offset, length);
    return true;
  }
  if (command == Command::kWrite && length > 0) {
    state_ = State::kSkipData;
    skip_left_ = length;
  }
  Piece& piece = *take_piece(0);
  if (command == Command::kRead && handshake_.structured_replies()) {
    // Refused, or nothing to read: one chunk, the last.
    bool none = error == WireError::kNone;
    store_be(piece.header.data(), nbd::kChunkMagic);
    store_be(piece.header.data() + 4, nbd::kChunkDone);
    store_be(piece.header.data() + 6, none ? nbd::kChunkNone : nbd::kChunkError);
    store_be(piece.header.data() + 8, cookie);
    store_be(piece.header.data() + 16, none ? uint32_t{0} : uint32_t{6});
    store_be(piece.header.data() + 20, static_cast<uint32_t>(error));
    store_be(piece.header.data() + 24, uint16_t{0});
    piece.header_size = none ? nbd::kChunkHeaderSize : nbd::kChunkErrorSize;
    queue_output(piece);
  } else {
    simple_reply(piece, cookie, error);
  }
  return true;
}

WireError NbdSession::check(Command command, uint16_t flags, uint64_t offset,
                            uint64_t length) const {
  unsigned allowed = nbd::kCommandFua;  // without effect on what does not write
  bool grows = false;
  switch (command) {
    case Command::kRead:
      if (handshake_.structured_replies()) allowed |= nbd::kCommandDf;
      break;
    case Command::kWrite:
      grows = true;
      break;
    case Command::kTrim:
      break;
    case Command::kWriteZeroes:
      allowed |= nbd::kCommandNoHole | nbd::kCommandFastZero;
      grows = true;
      break;
    case Command::kFlush:
      break;
    default:
      return WireError::kInvalid;
  }
  if ((flags & ~allowed) != 0) return WireError::kInvalid;
  if (command == Command::kFlush) {
    return offset == 0 && length == 0 ? WireError::kNone : WireError::kInvalid;
  }
  if (offset > volume_.size_bytes() || length > volume_.size_bytes() - offset) {
    return grows ? WireError::kNoSpace : WireError::kInvalid;
  }
  if ((offset | length) % volume_.block_bytes() != 0) return WireError::kInvalid;
  if (command == Command::kRead && length > nbd::kPayloadMax) return WireError::kOverflow;
  if ((flags & nbd::kCommandDf) != 0 && length > kPieceMax) return WireError::kOverflow;
  return WireError::kNone;
}

void NbdSession::begin(Command command, uint16_t flags, uint64_t cookie, uint64_t offset,
                       uint64_t length) {
  Transaction& transaction = *free_transactions_;
  Transaction* rest = transaction.next_free;
  transaction = Transaction{};
  free_transactions_ = rest;
  ++live_transactions_;
  transaction.command = command;
  transaction.fua = (flags & nbd::kCommandFua) != 0;
  transaction.cookie = cookie;
  transaction.offset = offset;
  transaction.length = length;
  switch (command) {
    case Command::kRead:
      transaction.simple_run = !handshake_.structured_replies() && length > kPieceMax;
      current_ = &transaction;
      state_ = transaction.simple_run ? State::kSimpleRun : State::kReadIssue;
      return;
    case Command::kWrite:
      current_ = &transaction;
      state_ = State::kWriteData;
      return;
    default:
      break;
  }
  Piece& piece = *take_piece(0);
  piece.transaction = &transaction;
  piece.fua = transaction.fua;
  transaction.issued = length;
  Operation operation = command == Command::kFlush  ? Operation::kFlush
                        : command == Command::kTrim ? Operation::kTrim
                                                    : Operation::kWriteZeroes;
  submit(piece, operation, offset, length);
}

bool NbdSession::step_write_data() {
  Transaction& transaction = *current_;
  if (filling_ == nullptr) {
    uint64_t size = std::min<uint64_t>(transaction.length - transaction.issued, kPieceMax);
    filling_ = take_piece(size);
    if (filling_ == nullptr) return false;
    filling_->transaction = &transaction;
    filling_->filled = 0;
    filling_->length = size;
    ++transaction.outstanding;  // from now on: the transaction must not end while it is filled
  }
  Piece& piece = *filling_;
  size_t take = std::min<size_t>(buffered(), piece.length - piece.filled);
  if (take > 0) {
    std::memcpy(piece.buffer->data() + piece.filled, input_.data() + input_begin_, take);
    piece.filled += take;
    input_begin_ += take;
  }
  if (piece.filled < piece.length) return false;
  filling_ = nullptr;
  --transaction.outstanding;
  uint64_t offset = transaction.offset + transaction.issued;
  transaction.issued += piece.length;
  bool last = transaction.issued == transaction.length;
  // A write of several pieces is flushed once, when all are done.
  piece.fua = transaction.fua && piece.length == transaction.length;
  piece.request_end = last;
  if (last) {
    current_ = nullptr;
    state_ = State::kHeader;
  }
  submit(piece, Operation::kWrite, offset, piece.length);
  return true;
}

bool NbdSession::step_read_issue() {
  Transaction& transaction = *current_;
  uint64_t size = std::min<uint64_t>(transaction.length - transaction.issued, kPieceMax);
  Piece* piece = take_piece(size);
  if (piece == nullptr) return false;
  piece->transaction = &transaction;
  uint64_t offset = transaction.offset + transaction.issued;
  transaction.issued += size;
  if (transaction.issued == transaction.length) {
    current_ = nullptr;
    state_ = State::kHeader;
  }
  submit(*piece, Operation::kRead, offset, size);
  return true;
}

bool NbdSession::step_skip() {
  uint64_t take = std::min<uint64_t>(buffered(), skip_left_);
  input_begin_ += take;
  skip_left_ -= take;
  if (skip_left_ == 0) state_ = State::kHeader;
  return skip_left_ == 0;
}

bool NbdSession::step_simple_run() {
  Transaction& transaction = *current_;
  // Alone: another answer between its bytes would be taken for data.
  if (live_transactions_ > 1 || transaction.outstanding > 0) return false;
  uint64_t size = std::min<uint64_t>(transaction.length - transaction.issued, kPieceMax);
  Piece* piece = take_piece(size);
  if (piece == nullptr) return false;
  piece->transaction = &transaction;
  uint64_t offset = transaction.offset + transaction.issued;
  transaction.issued += size;
  submit(*piece, Operation::kRead, offset, size);
  return false;  // on with the next one when it is done
}

// ---- Pieces ----

NbdSession::Piece* NbdSession::take_piece(size_t data_size) {
  if (free_pieces_ == nullptr) return nullptr;
  std::unique_ptr<Bytes> buffer;
  if (data_size > 0) {
    bool small = data_size <= kSmallBuffer;
    auto& free = small ? small_free_ : large_free_;
    size_t& made = small ? small_made_ : large_made_;
    if (!free.empty()) {
      buffer = std::move(free.back());
      free.pop_back();
    } else if (made < (small ? kSmallBuffers : kLargeBuffers)) {
      ++made;
      buffer = std::make_unique<Bytes>(small ? kSmallBuffer : kPieceMax);
    } else {
      return nullptr;
    }
  }
  Piece* piece = std::exchange(free_pieces_, free_pieces_->next);
  piece->buffer = std::move(buffer);
  piece->transaction = nullptr;
  piece->fua = false;
  piece->request_end = true;
  piece->header_size = 0;
  piece->payload_size = 0;
  piece->next = nullptr;
  return piece;
}

void NbdSession::release_buffer(Piece& piece) {
  if (piece.buffer == nullptr) return;
  bool small = piece.buffer->size() == kSmallBuffer;
  (small ? small_free_ : large_free_).push_back(std::move(piece.buffer));
}

void NbdSession::release(Piece& piece) {
  release_buffer(piece);
  piece.next = std::exchange(free_pieces_, &piece);
}

void NbdSession::release(Transaction& transaction) {
  HF_ASSERT(live_transactions_ > 0);
  --live_transactions_;
  transaction.next_free = std::exchange(free_transactions_, &transaction);
}

void NbdSession::submit(Piece& piece, Operation operation, uint64_t offset, uint64_t length) {
  piece.operation = operation;
  piece.offset = offset;
  piece.length = length;
  piece.data = piece.buffer == nullptr ? nullptr : piece.buffer->data();
  ++piece.transaction->outstanding;
  ++in_volume_;
  volume_.submit(piece);
}

void NbdSession::on_piece_done(Piece& piece, Status status) {
  HF_ASSERT(in_volume_ > 0 && !in_call_);
  --in_volume_;
  Transaction& transaction = *piece.transaction;
  --transaction.outstanding;
  if (!status.ok() && transaction.error == WireError::kNone)
    transaction.error = to_wire(status.error());
  if (abandoned_) {
    release(piece);
  } else if (transaction.simple_run) {
    finish_simple_run_piece(piece);
  } else if (transaction.command == Command::kRead) {
    piece.payload_size = status.ok() ? piece.length : 0;
    finish_read_piece(piece);
  } else {
    finish(piece);
  }
  in_call_ = true;  // advance() may submit; it never calls back
  if (!abandoned_) advance();
  in_call_ = false;
  owner_.on_session_ready();
}

void NbdSession::finish_read_piece(Piece& piece) {
  Transaction& transaction = *piece.transaction;
  bool last = transaction.outstanding == 0 && transaction.issued == transaction.length;
  bool good = piece.payload_size > 0;
  std::byte* header = piece.header.data();
  if (!handshake_.structured_replies()) {
    HF_ASSERT(last);
    simple_reply(piece, transaction.cookie, transaction.error);
    return release(transaction);
  }
  store_be(header, nbd::kChunkMagic);
  store_be(header + 4, last ? nbd::kChunkDone : uint16_t{0});
  store_be(header + 6, good ? nbd::kChunkOffsetData : nbd::kChunkError);
  store_be(header + 8, transaction.cookie);
  if (good) {
    store_be(header + 16, static_cast<uint32_t>(8 + piece.payload_size));
    store_be(header + 20, piece.offset);
    piece.header_size = nbd::kChunkDataHeaderSize;
  } else {
    store_be(header + 16, uint32_t{6});
    store_be(header + 20, static_cast<uint32_t>(transaction.error));
    store_be(header + 24, uint16_t{0});
    piece.header_size = nbd::kChunkErrorSize;
  }
  queue_output(piece);
  if (last) release(transaction);
}

void NbdSession::finish_simple_run_piece(Piece& piece) {
  Transaction& transaction = *piece.transaction;
  bool failed = transaction.error != WireError::kNone;
  if (failed && transaction.header_sent) {
    close();  // a simple reply has no way to take its promise back
    return release(piece);
  }
  bool last = failed || transaction.issued == transaction.length;
  if (!failed) piece.payload_size = piece.length;
  if (transaction.header_sent) {
    piece.header_size = 0;
    queue_output(piece);
  } else {
    transaction.header_sent = true;
    simple_reply(piece, transaction.cookie, transaction.error);
  }
  if (!last) return;
  release(transaction);
  current_ = nullptr;
  state_ = State::kHeader;
}

void NbdSession::finish(Piece& piece) {
  Transaction& transaction = *piece.transaction;
  bool last = transaction.outstanding == 0 && transaction.issued == transaction.length;
  if (!last) return release(piece);
  release_buffer(piece);
  bool owes_flush = transaction.fua && transaction.command == Command::kWrite &&
                    transaction.length > kPieceMax && !transaction.flushing;
  if (owes_flush && transaction.error == WireError::kNone) {
    transaction.flushing = true;
    piece.fua = false;
    return submit(piece, Operation::kFlush, 0, 0);
  }
  simple_reply(piece, transaction.cookie, transaction.error);
  release(transaction);
}

// ---- Output ----

void NbdSession::simple_reply(Piece& piece, uint64_t cookie, WireError error) {
  store_be(piece.header.data(), nbd::kSimpleReplyMagic);
  store_be(piece.header.data() + 4, static_cast<uint32_t>(error));
  store_be(piece.header.data() + 8, cookie);
  piece.header_size = nbd::kSimpleReplySize;
  if (error != WireError::kNone) piece.payload_size = 0;
  queue_output(piece);
}

void NbdSession::queue_output(Piece& piece) {
  if (piece.payload_size == 0) release_buffer(piece);
  piece.next = nullptr;
  (out_tail_ == nullptr ? out_head_ : out_tail_->next) = &piece;
  out_tail_ = &piece;
}

size_t NbdSession::gather(std::span<iovec> parts) {
  size_t count = 0;
  auto add = [&](std::byte* data, size_t size) {
    if (size > 0 && count < parts.size()) parts[count++] = {.iov_base = data, .iov_len = size};
  };
  if (handshake_sending_.empty()) handshake_sending_.swap(handshake_out_);
  add(handshake_sending_.data() + handshake_sent_, handshake_sending_.size() - handshake_sent_);
  if (!handshake_out_.empty()) return count;  // which comes before any reply
  size_t skip = out_sent_;
  for (Piece* piece = out_head_; piece != nullptr && count + 2 <= parts.size();
       piece = piece->next) {
    size_t in_header = std::min(skip, piece->header_size);
    add(piece->header.data() + in_header, piece->header_size - in_header);
    size_t in_payload = skip - in_header;
    if (piece->payload_size > 0) {
      add(piece->buffer->data() + in_payload, piece->payload_size - in_payload);
    }
    skip = 0;
  }
  return count;
}

void NbdSession::sent(size_t count) {
  HF_ASSERT(!abandoned_);
  in_call_ = true;
  size_t of_handshake = std::min(count, handshake_sending_.size() - handshake_sent_);
  handshake_sent_ += of_handshake;
  count -= of_handshake;
  if (handshake_sent_ == handshake_sending_.size()) {
    handshake_sending_.clear();
    handshake_sent_ = 0;
  }
  out_sent_ += count;
  while (out_head_ != nullptr) {
    size_t size = out_head_->header_size + out_head_->payload_size;
    if (out_sent_ < size) break;
    out_sent_ -= size;
    Piece& piece = *out_head_;
    out_head_ = piece.next;
    if (out_head_ == nullptr) out_tail_ = nullptr;
    release(piece);
  }
  HF_ASSERT(out_head_ != nullptr || out_sent_ == 0);
  advance();
  in_call_ = false;
}

}  // namespace hf::volume

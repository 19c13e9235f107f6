// One NBD connection without I/O: bytes in, bytes out, requests to a Volume.
//
// The owner moves bytes: it fills input() and says received(); it sends what gather() gives and
// says sent(). on_session_ready() tells it, outside its own calls, that there is output again or
// room for input. After finished() the connection is to be closed; the session may go once idle().
//
// Bounds: a client of whatever intent makes a session hold kSmallBuffers * 16 KiB +
// kLargeBuffers * 256 KiB of data and kPieces requests, no more; when they are in use, input() is
// empty until one is free, and the client waits. Requests of up to 32 MiB pass through in pieces.
//
//   request → Transaction (its cookie, range, first error)
//           → Pieces of at most 256 KiB (each a volume Request, its buffer, its reply header)
//
// With structured replies, each piece of a read is sent as it comes, in any order. Without, a read
// of more than one piece runs alone and in order, as a simple reply is one run of bytes.
#pragma once

#include <sys/uio.h>

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "volume/nbd_handshake.h"

namespace hf::volume {

class NbdSessionOwner {
 public:
  virtual void on_session_ready() = 0;

 protected:
  ~NbdSessionOwner() = default;
};

class NbdSession {
 public:
  static constexpr size_t kPieces = 64;
  static constexpr size_t kTransactions = 64;
  static constexpr size_t kPieceMax = kRequestDataMax;
  static constexpr size_t kSmallBuffer = size_t{16} << 10;
  static constexpr size_t kSmallBuffers = 64;
  static constexpr size_t kLargeBuffers = 16;

  NbdSession(NbdSessionOwner& owner, const NbdExport& offered);
  ~NbdSession();  // asserts idle()
  NbdSession(const NbdSession&) = delete;
  NbdSession& operator=(const NbdSession&) = delete;

  // Where the next bytes from the client belong; empty while the session can take none.
  MutableByteSpan input();
  void received(size_t count);

  // Fills `parts` with the next bytes to send; returns how many parts. They stay put until sent().
  size_t gather(std::span<iovec> parts);
  void sent(size_t count);
  bool has_output() const {
    return !handshake_out_.empty() || !handshake_sending_.empty() || out_head_ != nullptr;
  }

  // The client is gone: nothing more is taken or sent.
  void abandon();
  // The client said goodbye or broke the protocol, and every answer has been sent.
  bool finished() const { return closing_ && !has_output() && in_volume_ == 0; }
  bool idle() const { return in_volume_ == 0; }
  bool in_transmission() const { return handshake_.step() == NbdHandshake::Step::kTransmission; }

 private:
  struct Transaction {
    nbd::Command command = nbd::Command::kRead;
    bool fua = false;
    bool simple_run = false;  // a simple read of several pieces
    uint64_t cookie = 0;
    uint64_t offset = 0;
    uint64_t length = 0;
    uint64_t issued = 0;       // bytes given to pieces
    uint32_t outstanding = 0;  // pieces in the volume or being filled
    nbd::WireError error = nbd::WireError::kNone;
    bool header_sent = false;
    bool flushing = false;
    Transaction* next_free = nullptr;
  };

  class Piece final : public Request {
   public:
    void on_done(Status status) override { session->on_piece_done(*this, std::move(status)); }
    NbdSession* session = nullptr;
    Transaction* transaction = nullptr;
    std::unique_ptr<Bytes> buffer;
    size_t filled = 0;  // of a write's data
    std::array<std::byte, 40> header;
    size_t header_size = 0;
    size_t payload_size = 0;
    Piece* next = nullptr;  // in the free list or the output queue
  };

  enum class State { kHeader, kWriteData, kReadIssue, kSkipData, kSimpleRun };

  void advance();
  bool step();
  void compact_input();
  size_t buffered() const { return input_end_ - input_begin_; }

  bool step_handshake();
  bool step_header();
  bool step_write_data();
  bool step_read_issue();
  bool step_skip();
  bool step_simple_run();

  nbd::WireError check(nbd::Command command, uint16_t flags, uint64_t offset,
                       uint64_t length) const;
  void begin(nbd::Command command, uint16_t flags, uint64_t cookie, uint64_t offset,
             uint64_t length);
  Piece* take_piece(size_t data_size);  // null: none free now
  void submit(Piece& piece, Operation operation, uint64_t offset, uint64_t length);

  void on_piece_done(Piece& piece, Status status);
  void finish_read_piece(Piece& piece);
  void finish_simple_run_piece(Piece& piece);
  void finish(Piece& piece);  // the transaction's last piece: answers
  void simple_reply(Piece& piece, uint64_t cookie, nbd::WireError error);
  void queue_output(Piece& piece);
  void release_buffer(Piece& piece);
  void release(Piece& piece);
  void release(Transaction& transaction);
  void close() { closing_ = true; }

  NbdSessionOwner& owner_;
  Volume& volume_;
  NbdHandshake handshake_;
  State state_ = State::kHeader;
  bool closing_ = false;
  bool abandoned_ = false;
  bool in_call_ = false;  // the owner is calling: it needs no on_session_ready()

  static constexpr size_t kInputSize = size_t{64} << 10;
  static_assert(kInputSize >= NbdHandshake::kOptionMax);
  Bytes input_;
  size_t input_begin_ = 0;
  size_t input_end_ = 0;

  bool input_direct_ = false;  // what input() gave last: a piece's buffer, not input_

  Bytes handshake_out_;      // grows
  Bytes handshake_sending_;  // stays put until it is sent
  size_t handshake_sent_ = 0;

  std::vector<Piece> pieces_;
  std::vector<Transaction> transactions_;
  Piece* free_pieces_ = nullptr;
  Transaction* free_transactions_ = nullptr;
  std::vector<std::unique_ptr<Bytes>> small_free_;
  std::vector<std::unique_ptr<Bytes>> large_free_;
  size_t small_made_ = 0;
  size_t large_made_ = 0;

  Transaction* current_ = nullptr;  // whose data is coming in, or whose pieces are going out
  Piece* filling_ = nullptr;
  uint64_t skip_left_ = 0;
  size_t in_volume_ = 0;
  size_t live_transactions_ = 0;

  Piece* out_head_ = nullptr;
  Piece* out_tail_ = nullptr;
  size_t out_sent_ = 0;  // of the head's bytes
};

}  // namespace hf::volume

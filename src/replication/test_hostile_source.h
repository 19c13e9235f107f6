// A source that has everything that a real one has, the VM's key included, and uses it against its
// replica's site: records, closes and seeds that are signed as they should be and say what no
// honest journal says. For the unit test and the fuzzer, which differ only in where choices come
// from.
//
// Whatever it sends, the receiver answers with an acknowledgement or an error; what it took opens
// again after a crash; and a promotion with the key ends in a journal or in an error.
#pragma once

#include <optional>
#include <vector>

#include "base/crc32c.h"
#include "journal/journal.h"
#include "journal/log/line.h"
#include "journal/seal/sealer.h"
#include "replication/receiver.h"
#include "replication/test_session.h"
#include "sim/world/storage.h"

namespace hf::replication {

class Choices {
 public:
  virtual ~Choices() = default;
  virtual uint64_t below(uint64_t limit) = 0;  // limit > 0
  bool one_in(uint64_t n) { return below(n) == n - 1; }
  // Where arithmetic breaks, or close to it.
  uint64_t number() {
    constexpr std::array<uint64_t, 16> kEdges{0,
                                              1,
                                              2,
                                              0x7fffffff,
                                              0x80000000,
                                              0xffffffff,
                                              kNumberMax - 3,
                                              kNumberMax - 1,
                                              kNumberMax,
                                              kNumberMax + 1,
                                              0x7fffffffffffffff,
                                              0x8000000000000000,
                                              ~uint64_t{0} - 0xfff,
                                              ~uint64_t{0} - 1,
                                              ~uint64_t{0},
                                              uint64_t{1} << 56};
    return kEdges[below(kEdges.size())];
  }
};

// What the source takes the replica's journal for.
struct HostileView {
  journal::LineEnd end;
  Micros time{1000};
  Epoch epoch{1};
  journal::SegmentSummary segment;
  uint64_t segment_bytes = 0;
  Digest previous_close;
};

struct HostileCounts {
  uint64_t records = 0, closes = 0, seeds = 0, refusals = 0, promotions = 0;
};

class HostileSource {
 public:
  explicit HostileSource(Choices& choices) : choices_(choices), sealer_(keys()) {
    open(journal::ReplicaJournal::create(storage_, clock_, options()));
  }
  ~HostileSource() { close(); }
  HostileSource(const HostileSource&) = delete;
  HostileSource& operator=(const HostileSource&) = delete;

  void run(int steps) {
    for (int i = 0; i < steps; ++i) step();
  }

  // As at a failover. Where the journal opens, it also takes writes.
  void promote() {
    const Epoch epoch(std::min(replica_->epoch().value + 1, kNumberMax));
    close();
    sim::SimRng rng(7);
    auto opened = journal::Journal::open(
        storage_, clock_, rng, keys(), {.vm = vm(), .site = site(9), .epoch = epoch, .log = log()});
    if (!opened.ok()) return;
    counts_.promotions++;
    for (uint64_t i = 0; i < 8; ++i) {
      Done done;
      static_cast<void>(
          (*opened)->write(VolumeId(1), i * 4096, Bytes(700, std::byte{1}), &done).ok());
      settle(**opened);
    }
    Bytes read(64u << 10);
    Done done;
    (*opened)->read(VolumeId(1), 0, read, done);
    settle(**opened);
    storage_.kill_process();
  }

  const HostileCounts& counts() const { return counts_; }

 private:
  struct Done final : Completion {
    void on_complete(Status) override {}
  };
  static VmId vm() {
    VmId id;
    id.bytes.fill(std::byte{0x11});
    return id;
  }
  static SiteId site(uint8_t number) {
    SiteId id;
    id.bytes.fill(std::byte{number});
    return id;
  }
  static journal::JournalKeys keys() {
    return journal::JournalKeys::derive(crypto::Secret(crypto::kKeySize), vm(), KeyVersion(1));
  }
  static journal::LogOptions log() {
    return {.segment_bytes = 64u << 10,
            .segment_bytes_max = 128u << 10,
            .staging_bytes = journal::kRecordSizeMax + (64u << 10),
            .prepare_next = false};
  }
  journal::ReplicaOptions options() const {
    return {.vm = vm(), .public_key = sealer_.keys().public_key(), .log = log()};
  }

  // ---- The replica's site ----
  void open(Result<std::unique_ptr<journal::ReplicaJournal>> opened) {
    HF_ASSERT(opened.ok());  // whatever it took before
    replica_ = std::move(opened).value();
    receiver_.emplace(ReceiverOptions{.vm = vm(),
                                      .site = kReplicaSite,
                                      .peer_site = kHomeSite,
                                      .epoch = Epoch(1),
                                      .public_key = sealer_.keys().public_key(),
                                      .window_bytes = 2u << 20},
                      *replica_, session_rng_);
    peer_.session.reset();
  }
  void close() {
    storage_.kill_process();
    receiver_.reset();
    replica_.reset();
    storage_.reopen();
  }
  void reopen() {
    const journal::LineEnd before = replica_->durable_end();
    const bool seeded = replica_->replaced();
    close();
    open(journal::ReplicaJournal::open(storage_, clock_, options()));
    if (seeded) {
      HF_ASSERT(seed_.has_value() && replica_->durable_end() == seed_->end);
      view_ = *seed_;
      counts_.seeds++;
    } else {
      HF_ASSERT(replica_->durable_end() == before);
    }
  }
  template <typename Journal>
  void settle(Journal& journal) {
    for (int i = 0; i < 20; ++i) {
      journal.tick();
      scheduler_.run_for(1500);
      if (journal.idle() && journal.next_deadline().value > scheduler_.now().value + 50'000) break;
    }
  }
  // Until the replica has, durably, all that it takes of what it was sent.
  void turn() {
    for (int i = 0; i < 100; ++i) {
      settle(*replica_);
      receiver_->tick(clock_.monotonic());
      for (Effects effects = receiver_->take_effects(); !effects.empty();
           effects = receiver_->take_effects()) {
        for (const Effect& effect : effects) react(effect);
      }
      if (replica_->replaced()) return reopen();
      HF_ASSERT(replica_->failed() == nullptr);
      if (receiver_->waiting_bytes() == 0 && replica_->end() == replica_->durable_end()) return;
    }
    HF_ASSERT(false);
  }
  void react(const Effect& effect) {
    if (TestVaults::answer(*receiver_, kReplicaSite, effect, clock_.monotonic())) return;
    const auto* send = std::get_if<SendFrame>(&effect);
    if (send == nullptr) return;
    const Frame frame = *decode_frame(send->frame);
    if (frame.type == FrameType::kError) counts_.refusals++;
    if (frame.type == FrameType::kAck) {
      // More may have become durable since it was said.
      const journal::LineEnd said = decode_ack(frame.body)->durable;
      HF_ASSERT(said.position.sequence <= replica_->durable_end().position.sequence);
      HF_ASSERT(*replica_->locate(said) == journal::LineMatch::kOnLine);
    }
    if (frame.type != FrameType::kAnswer) return;
    give(peer_.auth(send->frame));
    settle(*replica_);
  }
  // Like a stranger's bytes: what does not decode ends the connection.
  void give(const Bytes& bytes) {
    const Result<Frame> frame = decode_frame(bytes);
    if (frame.ok()) receiver_->received(*frame, clock_.monotonic());
  }

  bool in_session() const { return peer_.session && peer_.session->confirmed(); }
  template <typename Body>
  void say(const Body& body) {
    give(in_session() ? peer_.seal(body) : encode(vm(), body));
  }
  void say_records(ByteSpan records, Sequence home_durable) {
    if (in_session()) return give(peer_.records(records, home_durable));
    give(encode(vm(), Records{.home_durable = home_durable, .records = records, .mac = {}}));
  }

  // ---- What it does ----
  void step() {
    if (receiver_->state() == Receiver::State::kIdle) receiver_->connected(clock_.monotonic());
    if (receiver_->state() == Receiver::State::kWaiting && !choices_.one_in(20)) {
      greet();
      return turn();
    }
    switch (choices_.below(16)) {
      case 0:
        greet();
        break;
      case 1:
        receiver_->disconnected();
        break;
      case 2:
        return reopen();
      case 3:
      case 4:
        return send_seed();
      case 5:
        say_records(last_batch_.empty() ? Bytes(64) : last_batch_, Sequence(choices_.number()));
        turn();
        return follow();
      default:
        return send_records();
    }
    turn();
  }
  void greet() {
    give(peer_.hello(Epoch(choices_.one_in(8) ? choices_.number() : view_.epoch.value)));
  }

  // ---- Records ----
  void send_records() {
    std::vector<HostileView> ends;
    HostileView at = view_;
    Bytes batch;
    const uint64_t count = 1 + choices_.below(6);
    for (uint64_t i = 0; i < count; ++i) {
      Bytes record = some_record(at);
      if (choices_.one_in(8)) spoil(record);
      if (choices_.one_in(16)) batch.insert(batch.end(), record.begin(), record.end());  // twice
      batch.insert(batch.end(), record.begin(), record.end());
      if (std::optional<HostileView> next = after(at, record)) {
        at = *next;
        ends.push_back(std::move(*next));
      }
    }
    if (choices_.one_in(16)) batch.resize(batch.size() - journal::kRecordAlignment);
    last_batch_ = batch;
    last_ends_ = std::move(ends);
    if (batch.empty()) return;
    say_records(batch,
                Sequence(choices_.one_in(8) ? choices_.number() : at.end.position.sequence.value));
    turn();
    follow();
  }
  // To where the replica took the last batch; it may have been refused once and be taken now.
  void follow() {
    for (const HostileView& end : last_ends_) {
      if (end.end != replica_->end() || end.end == view_.end) continue;
      counts_.records += end.end.position.sequence.value - view_.end.position.sequence.value;
      if (end.segment.records() == 0) counts_.closes++;
      view_ = end;
      break;
    }
    HF_ASSERT(view_.end == replica_->end());  // nothing was taken that does not follow
  }

  journal::RecordHeader header(const HostileView& at, journal::RecordKind kind) {
    return {.kind = kind,
            .sequence = Sequence(std::min(at.end.position.sequence.value + 1, kNumberMax)),
            .vm = vm(),
            .incarnation = at.end.position.incarnation,
            .key_version = KeyVersion(1),
            .time = Micros(std::min(at.time.value + 1, kNumberMax)),
            .prev_chain = at.end.chain};
  }
  Bytes some_record(const HostileView& at) {
    const bool first = at.end.position.sequence.value == 0;
    const uint64_t what = choices_.below(16);
    if (first ? what != 0 : what == 0) return incarnation_record(at);
    if ((what <= 3 || at.segment_bytes > (60u << 10)) && at.segment.records() > 0) {
      return close_record(at);
    }
    using journal::RecordKind;
    constexpr std::array kKinds{RecordKind::kWrite, RecordKind::kWrite,  RecordKind::kZero,
                                RecordKind::kFlush, RecordKind::kMarker, RecordKind::kHandover};
    journal::RecordHeader h = header(at, kKinds[choices_.below(kKinds.size())]);
    // Before any incarnation, or after a spoiled one: one that is not.
    if (h.incarnation.is_zero()) h.incarnation.bytes[0] = std::byte{1};
    Bytes data;
    if (h.kind == RecordKind::kWrite) data.resize(1 + choices_.below(5000));
    if (h.kind == RecordKind::kMarker) data.resize(choices_.below(100));
    h.length = h.kind == RecordKind::kZero ? 1 + choices_.below(uint64_t{1} << 40) : data.size();
    if (h.has_extent()) {
      h.volume = VolumeId(static_cast<uint32_t>(choices_.below(3)));
      h.offset = choices_.one_in(8) ? kNumberMax - h.length : choices_.below(1u << 20);
    }
    Bytes record(journal::align_record(journal::kRecordHeaderSize +
                                       journal::sealed_size(h.offset, data.size())));
    sealer_.seal_record(h, data, record);
    return record;
  }
  Bytes incarnation_record(const HostileView& at) {
    journal::RecordHeader h = header(at, journal::RecordKind::kIncarnation);
    store_le(h.incarnation.bytes.data(), ++salt_);
    journal::IncarnationBody body{.salt = h.incarnation,
                                  .epoch = Epoch(at.epoch.value + choices_.below(2)),
                                  .site = site(static_cast<uint8_t>(1 + choices_.below(2))),
                                  .parent = at.end.position,
                                  .parent_chain = at.end.chain};
    if (choices_.one_in(6)) body.epoch = Epoch(choices_.number());
    if (choices_.one_in(12)) body.parent.sequence = Sequence(choices_.number());
    h.payload_length = journal::kIncarnationPayloadSize;
    Bytes record(h.stored_size());
    sealer_.seal_incarnation(h, body, record);
    return record;
  }
  // Over what is there, or over something else, signed either way.
  Bytes close_record(const HostileView& at) {
    journal::RecordHeader h = header(at, journal::RecordKind::kClose);
    journal::CloseBody body = at.segment.close_body(at.epoch, at.end, at.previous_close);
    switch (choices_.below(16)) {
      case 0:
        body.merkle_root.bytes[3] ^= std::byte{1};
        break;
      case 1:
        body.table_digest.bytes[3] ^= std::byte{1};
        break;
      case 2:
        body.epoch = Epoch(choices_.number());
        break;
      case 3:
        body.last_sequence = Sequence(choices_.number());
        break;
      case 4:
        body.first_sequence = Sequence(choices_.number());
        break;
      case 5:
        body.record_count = choices_.number();
        break;
      case 6:
        body.table_entries = choices_.number();
        break;
      case 7:
        body.previous_close.bytes[0] ^= std::byte{1};
        break;
      case 8:
        body.chain.bytes[0] ^= std::byte{1};
        break;
      default:
        break;
    }
    h.payload_length = journal::kClosePayloadSize;
    Bytes record(h.stored_size());
    sealer_.sign_close(h, body, record);
    return record;
  }
  // One field of the header becomes something else; its checksum is put right.
  void spoil(Bytes& record) {
    using Layout = journal::RecordHeaderLayout;
    constexpr std::array<size_t, 8> kNumbers{offsetof(Layout, sequence), offsetof(Layout, sequence),
                                             offsetof(Layout, time_us),  offsetof(Layout, offset),
                                             offsetof(Layout, length),   offsetof(Layout, time_us),
                                             offsetof(Layout, sequence), offsetof(Layout, offset)};
    constexpr std::array<size_t, 8> kBytes{offsetof(Layout, kind),
                                           offsetof(Layout, flags),
                                           offsetof(Layout, vm),
                                           offsetof(Layout, incarnation),
                                           offsetof(Layout, payload_length),
                                           offsetof(Layout, payload_digest),
                                           offsetof(Layout, prev_chain),
                                           offsetof(Layout, key_version)};
    const uint64_t which = choices_.below(16);
    if (which < kNumbers.size()) {
      store_le(record.data() + kNumbers[which], choices_.number());
    } else {
      record[kBytes[which - kNumbers.size()]] ^= static_cast<std::byte>(1 + choices_.below(255));
    }
    store_le(record.data() + offsetof(Layout, crc32c),
             crc32c(ByteSpan(record).first(offsetof(Layout, crc32c))));
  }
  // The view after a record, should the replica take it.
  std::optional<HostileView> after(HostileView at, ByteSpan record) const {
    const Result<journal::RecordHeader> h = journal::decode_header(record);
    if (!h.ok() || h->sequence.value != at.end.position.sequence.value + 1) return {};
    const Digest digest = journal::header_digest(record.first<journal::kRecordHeaderSize>());
    at.end = {.position = {.incarnation = h->incarnation, .sequence = h->sequence},
              .chain = journal::next_chain(at.end.chain, digest)};
    at.time = h->time;
    const ByteSpan payload = record.subspan(journal::kRecordHeaderSize);
    if (h->kind == journal::RecordKind::kClose) {
      if (payload.size() < journal::kClosePayloadSize) return {};
      at.previous_close = journal::close_digest(record.first<journal::kRecordHeaderSize>(),
                                                payload.first(journal::kClosePayloadSize));
      at.segment.start(h->sequence.next());
      at.segment_bytes = 0;
      return at;
    }
    if (h->kind == journal::RecordKind::kIncarnation) {
      const Result<journal::IncarnationBody> body = journal::decode_incarnation(payload);
      if (!body.ok()) return {};
      at.epoch = body->epoch;
    }
    if (at.segment.records() == 0) at.segment.start(h->sequence);
    at.segment.add(*h, digest, at.segment_bytes);
    at.segment_bytes += record.size();
    return at;
  }

  // ---- Seeds ----
  void send_seed() {
    Sequence last(view_.end.position.sequence.value + 1 + choices_.below(1000));
    if (choices_.one_in(3)) last = Sequence(choices_.number());
    journal::Lineage lineage = some_lineage(last);
    Bytes entries = journal::encode_lineage(lineage, Sequence(~uint64_t{0}));
    Digest digest = crypto::sha256(entries);
    if (choices_.one_in(16)) digest.bytes[0] ^= std::byte{1};
    HostileView at;
    at.epoch = lineage.back().body.epoch;
    Bytes stream;
    std::vector<journal::SeedBaseEntry> bases(1 + choices_.below(3));
    for (size_t i = 0; i < bases.size(); ++i) {
      HostileView through = at;
      through.end.position.incarnation = lineage.back().body.salt;
      const bool newest = i + 1 == bases.size();
      through.end.position.sequence =
          newest ? last : Sequence(at.end.position.sequence.value + 1 + choices_.below(3));
      through.end.chain.bytes[0] = std::byte{static_cast<uint8_t>(i + 1)};
      through.time = Micros(choices_.one_in(6) ? choices_.number() : 2000 + i);
      through.previous_close.bytes[1] = std::byte{7};
      const Bytes file = base_file(at.end, digest, through);
      std::ranges::copy(ByteSpan(file).last(journal::kBaseFooterSize), bases[i].footer.begin());
      bases[i].number = choices_.one_in(8) ? choices_.number() : i + 1;
      stream.insert(stream.end(), file.begin(), file.end());
      at = std::move(through);
    }
    at.segment.start(Sequence(at.end.position.sequence.value + 1));
    seed_ = at;
    const Bytes description = journal::encode_seed(vm(), lineage, bases);
    say(Seed{.description = description, .mac = {}});
    turn();
    if (receiver_->state() == Receiver::State::kSeeding) send_seed_bytes(stream);
  }
  // The replica's own line and one incarnation more, as a rule; or no line at all.
  journal::Lineage some_lineage(Sequence last) {
    journal::Lineage lineage = replica_->lineage();
    const bool own = !lineage.empty() && !choices_.one_in(8);
    if (!own) lineage.clear();
    if (own && choices_.one_in(2)) return lineage;
    journal::LineageEntry entry;
    store_le(entry.body.salt.bytes.data(), ++salt_);
    entry.body.epoch = Epoch(choices_.one_in(6) ? choices_.number() : view_.epoch.value);
    if (own) entry.body.parent = view_.end.position;
    if (own && choices_.one_in(4)) entry.body.parent.sequence = Sequence(choices_.number());
    if (own && choices_.one_in(16)) entry.body.parent.incarnation.bytes[9] = std::byte{9};
    entry.first = Sequence(entry.body.parent.sequence.value + 1);
    if (choices_.one_in(8)) entry.first = choices_.one_in(2) ? last : Sequence(choices_.number());
    entry.time = Micros(choices_.one_in(6) ? choices_.number() : view_.time.value);
    lineage.push_back(entry);
    return lineage;
  }
  Bytes base_file(const journal::LineEnd& since, const Digest& lineage,
                  const HostileView& through) {
    journal::BaseFooter footer{
        .header = {.vm = vm(), .key_version = KeyVersion(1)},
        .through = {.end = through.end, .time = through.time, .close = through.previous_close},
        .since = since,
        .lineage_digest = lineage};
    Bytes file(journal::kBaseHeaderSize + 1024);
    journal::encode_base_header(footer.header,
                                MutableByteSpan(file).first(journal::kBaseHeaderSize));
    footer.table_offset = file.size();
    footer.data_digest = crypto::sha256(file);
    Bytes table(choices_.below(4) * journal::kExtentEntrySize);
    for (size_t at = 0; at < table.size(); at += journal::kExtentEntrySize) {
      const bool zero = choices_.one_in(3);
      journal::encode_extent(
          {.volume = VolumeId(1),
           .kind = zero ? journal::RecordKind::kZero : journal::RecordKind::kWrite,
           .offset = choices_.one_in(4) ? choices_.number() : at * 100,
           .length = choices_.one_in(4) ? choices_.number() : 512,
           .sequence = Sequence(choices_.number()),
           .position = choices_.one_in(2) ? 0 : choices_.number() & ~uint64_t{63}},
          std::span<std::byte, journal::kExtentEntrySize>(table.data() + at,
                                                          journal::kExtentEntrySize));
    }
    footer.table_entries = table.size() / journal::kExtentEntrySize;
    footer.table_digest = crypto::sha256(table);
    if (choices_.one_in(8)) footer.table_offset = choices_.number();
    if (choices_.one_in(8)) footer.table_entries = choices_.number();
    file.insert(file.end(), table.begin(), table.end());
    file.resize(file.size() + journal::kBaseFooterSize);
    journal::encode_base_footer(
        footer, sealer_.keys().signing(),
        std::span<std::byte, journal::kBaseFooterSize>(
            file.data() + file.size() - journal::kBaseFooterSize, journal::kBaseFooterSize));
    return file;
  }
  void send_seed_bytes(ByteSpan stream) {
    uint64_t at = 0;
    while (at < stream.size() && receiver_->state() == Receiver::State::kSeeding) {
      const size_t size =
          static_cast<size_t>(std::min<uint64_t>(stream.size() - at, 1 + choices_.below(20'000)));
      Bytes part(stream.begin() + static_cast<ptrdiff_t>(at),
                 stream.begin() + static_cast<ptrdiff_t>(at + size));
      if (choices_.one_in(40)) part[0] ^= std::byte{1};
      const uint64_t offset = choices_.one_in(40) ? choices_.number() : at;
      say(SeedBytes{.offset = offset, .bytes = part, .mac = {}});
      at += size;
      if (choices_.one_in(40)) return reopen();
      turn();
    }
  }

  Choices& choices_;
  sim::Scheduler scheduler_;
  sim::SimRng rng_{1};
  sim::SimStorage storage_{scheduler_, rng_.fork()};
  sim::SimClock clock_{scheduler_};
  journal::Sealer sealer_;
  sim::SimRng session_rng_{2};
  TestHome peer_{vm(), sealer_.keys().public_key()};
  std::unique_ptr<journal::ReplicaJournal> replica_;
  std::optional<Receiver> receiver_;
  HostileView view_;
  std::optional<HostileView> seed_;
  Bytes last_batch_;
  std::vector<HostileView> last_ends_;  // after each record of it, should all before be taken
  uint64_t salt_ = 0;
  HostileCounts counts_;
};

}  // namespace hf::replication

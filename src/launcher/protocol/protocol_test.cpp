#include "launcher/protocol/protocol.h"

#include "launcher/start_check.h"
#include "launcher/test_site.h"

namespace hf::launcher {
namespace {

Request keeper_request() {
  Request request{.verb = Request::Verb::kStart, .id = 7};
  request.start = StartRequest{
      .unit = "keeper-1",
      .kind = UnitKind::kKeeper,
      .vm = test_vm(5),
      .vm_number = 12,
      .bar = Bar(3),
      .sockets = {{.name = "qmp", .path = "run/vms/x/qmp.sock", .access = SocketAccess::kDaemon}},
      .config = sys::JsonObject{{"a", 1}},
      .fd_names = {"image1"},
      .restart = RestartPolicy::kAlways};
  return request;
}

TEST(Protocol, requests_survive_the_wire) {
  Request qemu{.verb = Request::Verb::kStart, .id = 8};
  qemu.start = StartRequest{
      .unit = "qemu-1", .kind = UnitKind::kQemu, .vm = test_vm(5), .machine = test_machine()};
  Request stop{.verb = Request::Verb::kStop, .id = 9};
  stop.stop = StopRequest{.unit = "qemu-1", .signal = 9, .remove_vm = test_vm(5)};
  Request fence{.verb = Request::Verb::kFence, .id = 10};
  fence.fence = FenceRequest{.vm = test_vm(5), .reach = FenceReach::kGuests};
  Request status{.id = 12, .status = StatusRequest{"keeper-1", test_vm(2)}};
  for (const Request& request : {keeper_request(), qemu, stop, fence, Request{.id = 11}, status}) {
    auto back = decode_request(encode(request));
    ASSERT_TRUE(back.ok()) << back.error().describe() << encode(request);
    EXPECT_EQ(encode(*back), encode(request));
  }
}

TEST(Protocol, answers_survive_the_wire) {
  Reply reply{.id = 3, .pid = 77, .bar = Bar(5)};
  reply.units = {{.unit = "keeper-1", .pid = 77, .running = false, .exit_status = -1}};
  reply.bars = {{test_vm(1).hex(), Bar(9)}};
  auto back = decode_from_launcher(encode(reply));
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(encode(*back->reply), encode(reply));
  Reply refused{.id = 4, .error = Error{.code = ErrorCode::kConflict, .cause = "c", .mend = "m"}};
  back = decode_from_launcher(encode(refused));
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(back->reply->error->mend, "m");
  Event event{.unit = "keeper-1", .pid = 7, .exit_status = 3, .stderr_tail = "two\nlines\t\x01"};
  back = decode_from_launcher(encode(event));
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(back->event->stderr_tail, event.stderr_tail);
}

// Bytes that are no text made the whole event unreadable, and the daemon never learned of the end.
TEST(Protocol, last_words_that_are_no_text_still_arrive) {
  for (std::string words : {std::string("\xff\xfe broken"), std::string("cut \xe2\x82"),
                            std::string("half \xed\xa0\x80"), std::string("long \xc0\xaf")}) {
    Event event{.unit = "keeper-1", .pid = 7, .stderr_tail = readable(words)};
    auto back = decode_from_launcher(encode(event));
    ASSERT_TRUE(back.ok()) << back.error().describe();
    EXPECT_NE(back->event->stderr_tail.find('?'), std::string::npos);
  }
  EXPECT_EQ(readable("\xe2\x82\xac stays, \xf0\x9f\x90\x8e too"),
            "\xe2\x82\xac stays, \xf0\x9f\x90\x8e too");
}

TEST(Protocol, the_longest_page_of_a_status_is_one_message) {
  Reply reply{.id = ~uint64_t{0} >> 2, .bar = Bar(~uint64_t{0} >> 2), .more = true};
  for (size_t i = 0; i < kStatusPageMax; ++i) {
    std::string name = std::to_string(1000 + i);
    reply.units.push_back({.unit = name + std::string(kUnitNameMax - name.size(), 'x'),
                           .pid = 4'194'304,
                           .running = false,
                           .exit_status = -1,
                           .signal = 64,
                           .restarts = ~uint64_t{0} >> 2});
    VmId vm = test_vm(1);
    store_le<uint32_t>(vm.bytes.data(), static_cast<uint32_t>(i));
    reply.bars.emplace(vm.hex(), reply.bar);
  }
  reply.weaknesses.assign(16, std::string(512, 'w'));
  const std::string text = encode(reply);
  EXPECT_LT(text.size(), kMessageBytesMax);
  auto back = decode_from_launcher(text);
  ASSERT_TRUE(back.ok()) << back.error().describe();
  EXPECT_EQ(encode(*back->reply), text);
}

TEST(Protocol, refuses_what_is_out_of_bounds) {
  auto changed = [](const std::string& from, const std::string& to) {
    std::string text = encode(keeper_request());
    size_t at = text.find(from);
    HF_ASSERT(at != std::string::npos);
    return text.replace(at, from.size(), to);
  };
  for (const std::string& text :
       {std::string("{}"),
        std::string("[]"),
        changed(R"("id":7)", R"("id":-1)"),
        changed(R"("verb":"start")", R"("verb":"exec")"),
        changed(R"("verb":"start")", R"("verb":"stop")"),
        changed(R"("unit":"keeper-1")", R"("unit":"../x")"),
        changed(R"("unit":"keeper-1")", R"("unit":"")"),
        changed(R"("kind":"keeper")", R"("kind":"vault")"),
        changed(R"("kind":"keeper")", R"("kind":"qemu")"),
        changed(R"("vm_number":12)", R"("vm_number":20001)"),
        changed(R"("vm_number":12)", R"("vm_number":12,"argv":["x"])"),
        changed(R"("vm_number":12)", R"("vm_number":12,"host_network":true)"),
        changed(R"("vm_number":12)", R"("vm_number":12,"adopt_dir":"vault")"),
        changed(test_vm(5).hex(), VmId().hex()),
        changed(R"("access":"daemon")", R"("access":"all")"),
        changed(R"("bar":3)", R"("bar":18446744073709551615)"),
        std::string(R"({"verb":"stop","id":1,"stop":{"unit":"a","signal":11}})"),
        std::string(R"({"verb":"stop","id":1,"stop":{"unit":"a","timeout_ms":600001}})"),
        std::string(R"({"verb":"fence","id":1,"fence":{"vm":"00"}})"),
        std::string(R"({"verb":"fence","id":1})"),
        std::string(R"({"verb":"fence","id":1,"fence":{"vm":")" + test_vm(1).hex() +
                    R"(","reach":"all"},"status":{}})"),
        std::string(R"({"verb":"status","id":1,"status":{"after":"x"}})")}) {
    EXPECT_FALSE(decode_request(text).ok()) << text;
  }
}

TEST(StartCheck, a_keepers_config_has_paths_of_its_own_vm_only) {
  StartPlace place{.state = "/s"};
  place.site.bytes[0] = std::byte{1};
  VmId vm = test_vm(1);
  std::string own = "/s/vms/" + vm.hex();
  sys::JsonObject good{{"mode", "serve"},
                       {"vm", vm.hex()},
                       {"site", place.site.hex()},
                       {"journal_dir", own + "/journal"},
                       {"vmgs_path", own + "/journal/guest.vmgs"},
                       {"vault_socket", "/s/run/vault-keys.sock"},
                       {"uefi_template", "/usr/share/OVMF/OVMF_VARS_4M.ms.fd"},
                       {"volumes", {{{"id", 1}, {"name", "disk1"}}}}};
  Status checked = check_keeper_config(vm, good, place);
  EXPECT_TRUE(checked.ok()) << checked.error().describe();
  std::string other = "/s/vms/" + test_vm(2).hex();
  std::vector<std::pair<const char*, std::string>> odd{{"vm", test_vm(2).hex()},
                                                       {"site", SiteId().hex()},
                                                       {"journal_dir", other + "/journal"},
                                                       {"journal_dir", own + "/journal/../../x"},
                                                       {"journal_dir", own},
                                                       {"vmgs_path", own + "/journal/a/b"},
                                                       {"vmgs_path", own + "/journal/.."},
                                                       {"vault_socket", "/s/run/vault-admin.sock"},
                                                       {"uefi_template", "/usr/share/OVMF/../x"},
                                                       {"uefi_template", "/etc/shadow"},
                                                       {"anything_new", "/etc/shadow"}};
  for (const auto& [name, value] : odd) {
    sys::JsonObject config = good;
    config[name] = value;
    EXPECT_EQ(check_keeper_config(vm, config, place).error().code, ErrorCode::kPermission)
        << name << " " << value;
  }
  sys::JsonObject deep = good;
  deep["volumes"] = sys::JsonArray{sys::JsonObject{{"x", sys::JsonArray{"/etc/shadow"}}}};
  EXPECT_EQ(check_keeper_config(vm, deep, place).error().code, ErrorCode::kPermission);
}

}  // namespace
}  // namespace hf::launcher

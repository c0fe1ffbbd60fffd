//! boringtun and the simulator's stand-in for it, held to the same traces: what holds in virtual time
//! holds on the wire.
//!
//! Each case of [`suite`] is run against both. Their clocks are moved by hand: boringtun asks the
//! system for the time since boot, and [`clock`] answers for it in this program.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "the whole program is a test: what is not expected ends it"
)]

mod clock;
mod ends;
mod suite;

/// Every case against one implementation.
macro_rules! held_to_the_suite {
    ($name:ident, $end:ty) => {
        mod $name {
            use super::{ends, suite};

            held_to_the_suite!(@ $end:
                messages_have_the_sizes_of_the_protocol,
                responder_sends_nothing_before_the_first_packet_under_new_keys,
                lost_first_initiation_is_sent_again_after_five_seconds,
                lost_response_leads_to_another_handshake,
                lost_confirmation_is_made_good_by_the_next_packet,
                crossed_initiations_both_end_in_keys,
                answers_to_the_last_two_initiations_are_taken_and_no_others,
                initiation_that_is_replayed_or_overtaken_is_refused,
                packets_are_opened_once_in_any_order_within_a_window,
                messages_of_strangers_are_refused,
                initiator_renews_keys_in_use_after_two_minutes,
                initiator_that_only_receives_renews_keys_before_they_are_refused,
                packets_on_their_way_survive_new_keys,
                keys_are_not_used_after_three_minutes,
                idle_tunnel_says_nothing_and_is_dead_after_nine_minutes,
                dead_tunnel_knows_old_initiations_and_shakes_hands_with_either_side,
                initiations_that_nobody_answers_end_after_ninety_seconds,
                who_has_received_and_says_nothing_sends_a_keepalive_after_ten_seconds,
                who_sends_and_hears_nothing_begins_a_handshake_after_fifteen_seconds,
                packets_wait_for_keys_and_not_too_many_of_them,
                too_many_handshakes_are_asked_for_a_cookie_which_then_opens_the_door,
                cookie_is_good_for_two_minutes_at_most,
            );
        }
    };
    (@ $end:ty: $($case:ident,)+) => {
        $(
            #[test]
            fn $case() {
                suite::$case::<$end>();
            }
        )+
    };
}

held_to_the_suite!(boringtun, ends::Boringtun);
held_to_the_suite!(stand_in, ends::StandIn);

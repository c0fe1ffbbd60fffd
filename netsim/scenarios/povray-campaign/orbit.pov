// A small planet, its moons, and a camera that goes once around them. `clock` runs from 0 to 1.
#version 3.7;
global_settings { assumed_gamma 1.0 }

#declare Turn = 2 * pi * clock;

camera {
    location <8 * sin(Turn), 3 + sin(2 * Turn), -8 * cos(Turn)>
    look_at <0, 0, 0>
    angle 40
    right x * image_width / image_height
}

light_source { <20, 30, -20> rgb 1.2 }
background { rgb <0.02, 0.03, 0.08> }

sphere {
    0, 1.6
    pigment { granite color_map { [0.0 rgb <0.1, 0.25, 0.6>] [0.5 rgb <0.2, 0.5, 0.3>] [1.0 rgb 1] } }
    finish { specular 0.3 }
    rotate y * 360 * clock
}

#declare Moon = 0;
#while (Moon < 6)
    sphere {
        <2.8, 0, 0>, 0.2 + 0.05 * Moon
        pigment { rgb <0.9, 0.8 - 0.1 * Moon, 0.3> }
        finish { reflection 0.2 specular 0.5 }
        rotate y * (60 * Moon + 720 * clock)
        rotate z * (10 * Moon - 25)
    }
    #declare Moon = Moon + 1;
#end

plane {
    y, -2.2
    pigment { checker rgb 0.15, rgb 0.35 scale 1.5 }
    finish { reflection 0.15 }
}
